"""Where the jobs of a sweep run: what the sweep asks of processes on this machine and of a cluster alike."""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from rla_exp.sweep.ending import Ending
from rla_exp.sweep.job import Job


@dataclass(frozen=True)
class Ended:
    """A job whose process is gone."""

    job: Job
    ending: Ending
    seconds: float
    """Wall time of the process."""


class Workers(Protocol):
    """Processes, one a job, each with at most one device."""

    @property
    def running(self) -> tuple[Job, ...]:
        """The jobs that have a process, or wait for one on the cluster."""

    def has_room(self) -> bool:
        """Whether one more job may start now."""

    def adopt(self, job: Job) -> bool:
        """Take over the process that an earlier sweep left for the job; False where there is none."""

    def start(self, job: Job) -> None:
        """Start a process for the job.

        Raises:
            RunError: that is not possible; other jobs may go on.
        """

    def ended(self, timeout: float) -> list[Ended]:
        """The jobs that ended; waits for the first for `timeout` seconds."""

    def stop(self, number: signal.Signals) -> None:
        """Ask all processes to write their checkpoints and end (SIGINT, SIGTERM), or end them (SIGKILL)."""


StartWorkers = Callable[[Sequence[Job], int], Workers]
"""Makes the workers of a sweep from its jobs and the number that may run at a time."""
