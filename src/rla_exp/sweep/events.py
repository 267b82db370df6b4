"""What happens in a sweep, as displays hear of it."""

from __future__ import annotations

from dataclasses import dataclass

from rla_exp.sweep.job import Job, JobOutcome


@dataclass(frozen=True)
class JobStarted:
    """A process was started for the job, or one of an earlier sweep was found at work on the cluster."""

    job: Job


@dataclass(frozen=True)
class JobElsewhere:
    """Another sweep trains the run; its result is waited for."""

    job: Job


@dataclass(frozen=True)
class JobReleased:
    """The other sweep left the run unfinished: it waits for its turn again."""

    job: Job


@dataclass(frozen=True)
class JobEnded:
    """A job has its outcome."""

    outcome: JobOutcome


@dataclass(frozen=True)
class Tick:
    """Half a second has passed, or a job ended."""

    running: tuple[Job, ...]


@dataclass(frozen=True)
class Stopping:
    """A signal or the time limit asked for the end: no more jobs start, the running ones write their checkpoints."""

    reason: str
    """The signal's name, or "time limit"."""
    running: tuple[Job, ...]


Event = JobStarted | JobElsewhere | JobReleased | JobEnded | Tick | Stopping
