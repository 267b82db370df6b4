"""What happens in a worker: one job, its output in the run's log.txt, its end told through a pipe."""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import FrameType

from rla_exp.config import Composed
from rla_exp.errors import RunError
from rla_exp.runs import RunFolder
from rla_exp.runs.log import LOG_FILE
from rla_exp.sweep.ending import Ending, ending_of

# how long a worker whose sweep has died may take for its checkpoint
ORPHAN_GRACE_SECONDS = 120.0


def train(composed: Composed) -> None:
    """Train a run."""
    # imported here: the parent, which only names this function, needs no torch for it
    from rla_exp.lit.train import train_run

    train_run(composed)


def run_worker(work: Callable[[], None], folder: Path, environment: Mapping[str, str], ending: Connection) -> None:
    """Entry point of a worker.

    Args:
        work: the job's work.
        folder: the run's folder; its log.txt takes all output.
        environment: the environment of the sweep; the server's own is older.
        ending: where the `Ending` goes.
    """
    signal.signal(signal.SIGTERM, _interrupt)
    os.environ.clear()
    os.environ.update(environment)
    _watch_parent()

    def redirected_work() -> None:
        redirect_output(folder)
        work()

    try:
        ending.send(ending_of(redirected_work, folder, tell=traceback.print_exc))
    except KeyboardInterrupt:
        # asked to stop at the instant of its end
        ending.send(Ending("interrupted"))


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    # until the run has its own handler, a polite end is the same as Ctrl-C
    raise KeyboardInterrupt


def redirect_output(folder: Path) -> None:
    """Let the run's log.txt take all output of this process.

    Raises:
        RunError: it cannot be written.
    """
    RunFolder(folder).create()
    file = folder / LOG_FILE
    try:
        log = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    except OSError as error:
        raise RunError(f"cannot write {file}: {error.strerror or error}") from error
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(log, sys.__stdout__.fileno() if sys.__stdout__ else 1)
    os.dup2(log, sys.__stderr__.fileno() if sys.__stderr__ else 2)
    os.close(log)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    # a crash in native code leaves its Python stack in the log
    faulthandler.enable()


def _watch_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None

    def stop_when_orphaned() -> None:
        wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(ORPHAN_GRACE_SECONDS)
        os._exit(1)

    threading.Thread(target=stop_when_orphaned, name="watch-parent", daemon=True).start()
