"""Imported by the fork server, before anything else: leave the terminal's process group.

Ctrl-C reaches every process of that group at once. The server would die of it while it imports, and a worker would hear
it twice, from the terminal and from the sweep, which a run takes for an order to stop without its checkpoint.
"""

import os

# set for the server alone; importing this anywhere else changes nothing
SERVER_VARIABLE = "RLA_EXP_FORK_SERVER"

if os.environ.pop(SERVER_VARIABLE, None) == "1":
    os.setsid()
