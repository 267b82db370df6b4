"""How every command ends.

| exit code | meaning |
|---|---|
| 0 | done |
| 1 | something that the user can mend: one message, no traceback (a fault of ours does print one) |
| 130 | asked to stop; the last checkpoint is written, the same command goes on |
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from rla_exp.errors import InterruptedRun, UserError

INTERRUPTED = 130


def exit_code(command: Callable[[], None]) -> int:
    """Run a command to its exit code, printing the message of what went wrong to stderr."""
    try:
        command()
    except InterruptedRun as stop:
        print(stop, file=sys.stderr)
        return INTERRUPTED
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except UserError as error:
        print(error, file=sys.stderr)
        return 1
    except BrokenPipeError:
        # `--help | head`: the reader has what it wanted, and python's own flush at exit would complain
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0
