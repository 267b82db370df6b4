"""Many runs, each in a process of its own: finished ones are skipped, interrupted ones go on, failures are told."""

from rla_exp.sweep.job import Job, JobOutcome, rerun_command
from rla_exp.sweep.pool import Event, JobEnded, JobStarted, Stopping, Tick, run_jobs

__all__ = ["Event", "Job", "JobEnded", "JobOutcome", "JobStarted", "Stopping", "Tick", "rerun_command", "run_jobs"]
