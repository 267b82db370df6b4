"""Imported by the fork server, after what computes: the sources and the commit that its workers have in memory.

A worker is a fork of the server and runs what the server imported, whatever has been edited since. Both functions
remember what they found, and a fork remembers it too.
"""

from rla_exp.runs import EVALUATING, git_commit, sources_hash

sources_hash()
sources_hash(EVALUATING)
git_commit()
