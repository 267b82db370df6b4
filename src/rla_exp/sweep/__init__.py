"""Many runs, each in a process of its own: finished ones are skipped, interrupted ones go on, failures are told."""

from rla_exp.sweep.events import Event, JobElsewhere, JobEnded, JobReleased, JobStarted, Stopping, Tick
from rla_exp.sweep.job import Job, JobOutcome, rerun_command
from rla_exp.sweep.pool import run_jobs

__all__ = [
    "Event",
    "Job",
    "JobElsewhere",
    "JobEnded",
    "JobOutcome",
    "JobReleased",
    "JobStarted",
    "Stopping",
    "Tick",
    "rerun_command",
    "run_jobs",
]
