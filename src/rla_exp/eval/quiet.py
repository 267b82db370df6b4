"""lm-eval says at length what it does."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO

NO_POOL = "DISABLE_MULTIPROC"
"""The variable by which lm-eval is told to stay in one process."""


@contextmanager
def lm_eval_quiet() -> Iterator[None]:
    """Silence its log, prints and bars; our own log's handlers hold the true stderr and are heard."""
    logger = logging.getLogger("lm_eval")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            yield
    finally:
        logger.setLevel(level)


@contextmanager
def lm_eval_in_one_process() -> Iterator[None]:
    """Have its standard errors bootstrapped here, not in a pool of forks.

    A fork of a process whose threads hold locks, as one does that trains, can wait for them forever.
    """
    before = os.environ.get(NO_POOL)
    os.environ[NO_POOL] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[NO_POOL]
        else:
            os.environ[NO_POOL] = before
