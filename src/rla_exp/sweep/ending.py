"""How the process of a job ended, and what that makes of the job."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rla_exp.errors import InterruptedRun, NonFiniteError, RunHeldError, UserError
from rla_exp.sweep.job import Job, JobOutcome, log_tail
from rla_exp.sweep.recorded import is_finished, note_death, read_status


@dataclass(frozen=True)
class Ending:
    """What a worker says last; for one that was killed its sweep says it."""

    state: Literal["done", "failed", "interrupted", "held"]
    """held: another process trains the run."""
    cause: str | None = None
    diverged: bool = False
    spoken: bool = True
    """False: the process was killed or left without a word."""


def ending_of(work: Callable[[], None], folder: Path, tell: Callable[[], None]) -> Ending:
    """Do a job's work and say how it ended.

    Args:
        folder: the run's folder.
        tell: called while an error is handled that the run itself has not told of; prints its traceback.
    """
    try:
        work()
    except (KeyboardInterrupt, InterruptedRun) as error:
        return Ending("interrupted", str(error) or None)
    except RunHeldError as error:
        return Ending("held", str(error))
    except UserError as error:
        # the sweep tells it; a traceback would say nothing more
        return Ending("failed", f"{type(error).__name__}: {error}", diverged=isinstance(error, NonFiniteError))
    except Exception as error:
        cause = f"{type(error).__name__}: {error}"
        status = read_status(folder)
        # a run that had begun has put the error into its log and its status
        if status is None or status.error != cause:
            tell()
        return Ending("failed", cause)
    return Ending("done")


def unspoken(exit_code: int | None) -> Ending:
    """The ending of a process that said nothing: it was killed, or left by itself."""
    if exit_code is not None and exit_code < 0:
        number = -exit_code
        cause = f"killed by signal {number} ({signal.Signals(number).name})"
        if number == signal.SIGKILL:
            cause += ", as the system does when memory runs out"
    else:
        cause = f"its process ended with exit code {exit_code} and no word"
    return Ending("failed", cause, spoken=False)


def outcome_of(job: Job, ending: Ending, seconds: float) -> JobOutcome:
    """What an ending makes of a job; the run's status says so too afterwards.

    Args:
        seconds: wall time of the process.
    """
    if ending.state == "done" and not is_finished(job.folder):
        ending = Ending("failed", f"it ended well but left no result.json in {job.folder}")
    if ending.state == "done":
        return JobOutcome(job=job, state="done", seconds=seconds)
    # one that failed before it began says nothing in its status
    note_death(job.folder, ending.cause or ("interrupted" if ending.state == "interrupted" else "not recorded"))
    if ending.state == "interrupted":
        return JobOutcome(job=job, state="interrupted", cause=ending.cause, seconds=seconds)
    status = read_status(job.folder)
    return JobOutcome(
        job=job,
        state="failed",
        cause=ending.cause,
        log_tail=log_tail(job.folder),
        seconds=seconds,
        kept_failed=status is not None and status.state == "failed",
        diverged=ending.diverged,
    )
