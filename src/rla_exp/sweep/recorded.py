"""What a run's folder says about a job before it starts, and what is noted there when its process dies."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from rla_exp.errors import NonFiniteError, RunError
from rla_exp.runs import RunFolder, Status, check_same_config
from rla_exp.runs.lock import is_locked
from rla_exp.runs.result import RESULT_FILE
from rla_exp.sweep.job import Job, JobOutcome, log_tail


def is_finished(folder: Path) -> bool:
    """Whether a run has its result."""
    return (folder / RESULT_FILE).is_file()


def recorded_outcome(job: Job) -> JobOutcome | None:
    """The outcome that the job's folder holds before it starts; None where it is to be run.

    A folder that holds another configuration is a failure that shows the difference.
    """
    try:
        if job.resolved is not None:
            check_same_config(RunFolder(job.folder), job.resolved)
    except RunError as error:
        return JobOutcome(job=job, state="failed", cause=f"{type(error).__name__}: {error}")
    if is_finished(job.folder):
        return JobOutcome(job=job, state="skipped")
    return None if job.retry_failed else recorded_failure(job)


def recorded_failure(job: Job) -> JobOutcome | None:
    """The failure that another sweep left for this job; None where there is none."""
    status = read_status(job.folder)
    if status is None or status.state != "failed":
        return None
    cause = status.error or "not recorded"
    # a run that ends with an error begins its words with the error's class
    diverged = cause.startswith(f"{NonFiniteError.__name__}:")
    return JobOutcome(
        job=job,
        state="failed",
        cause=cause,
        log_tail=log_tail(job.folder),
        kept_failed=True,
        recorded=True,
        diverged=diverged,
    )


def read_status(folder: Path) -> Status | None:
    """The status in a run's folder; None where there is none, or none that can be read."""
    try:
        return RunFolder(folder).read_status()
    except RunError:
        # the run itself says so when it starts, with what to do
        return None


def note_death(folder: Path, cause: str) -> None:
    """Record that the process of an unfinished run is gone, so that nobody takes the run for a running one.

    The state is `interrupted`: the run goes on from its last checkpoint when the same command is given again.
    A run that another process trains is left alone.
    """
    status = read_status(folder)
    if status is not None and status.state in ("queued", "running") and not is_locked(folder):
        # where nothing can be written (a full disk) the free lock tells the same
        with suppress(RunError):
            RunFolder(folder).write_status(replace(status, state="interrupted", error=cause))
