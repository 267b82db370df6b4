"""Where a sweep stands: what both displays show, gathered from events and the runs' status.json."""

from __future__ import annotations

import time
from dataclasses import dataclass

from rla_exp.runs import Status
from rla_exp.sweep.events import Event, JobElsewhere, JobEnded, JobReleased, JobStarted, Stopping
from rla_exp.sweep.job import Job, JobOutcome
from rla_exp.sweep.recorded import read_status


@dataclass(frozen=True)
class RunningJob:
    """A job at work, as its status.json has it."""

    job: Job
    step: int
    max_steps: int
    loss: float | None
    tokens_per_s: float | None
    seconds_left: float | None
    """By its own pace so far; None before there is one."""
    share: float = 0.0
    """Part of its steps that are taken, 0 to 1."""
    share_here: float = 0.0
    """Part of its steps that were taken since this sweep took it up: a run that goes on had the others before."""
    elsewhere: bool = False
    """Another sweep trains it."""


class SweepProgress:
    """Counts of a sweep of `total` distinct runs."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.outcomes: list[JobOutcome] = []
        self.working: list[Job] = []
        self.elsewhere: set[Job] = set()
        self.first_seen: dict[Job, tuple[int, float]] = {}
        self.share_before: dict[Job, float] = {}
        """Part of its steps that each run had when this sweep took it up."""
        self.begun: float | None = None
        self.stopping = False

    def note(self, event: Event) -> None:
        """Take in what happened."""
        match event:
            case JobStarted(job):
                self._begin(job)
            case JobElsewhere(job):
                self._begin(job)
                self.elsewhere.add(job)
            case JobReleased(job):
                self._leave(job)
            case JobEnded(outcome):
                if outcome.seconds > 0:
                    # one that is over before it was looked at still tells where it began
                    self._note_share_before(outcome.job, read_status(outcome.job.folder))
                self._leave(outcome.job)
                self.outcomes.append(outcome)
            case Stopping():
                self.stopping = True

    def _begin(self, job: Job) -> None:
        if job not in self.working:
            self.working.append(job)
        status = read_status(job.folder)
        if status is not None and status.state == "running" and status.max_steps:
            # another sweep, or an earlier one on the cluster, has brought it this far
            self.share_before.setdefault(job, status.step / status.max_steps)
        self.begun = self.begun or time.monotonic()

    def _leave(self, job: Job) -> None:
        if job in self.working:
            self.working.remove(job)
        self.elsewhere.discard(job)

    def _note_share_before(self, job: Job, status: Status | None) -> None:
        if status is not None and status.first_step is not None and status.max_steps:
            self.share_before.setdefault(job, status.first_step / status.max_steps)

    def count(self, state: str) -> int:
        """Number of jobs that ended in this state."""
        return sum(outcome.state == state for outcome in self.outcomes)

    def running(self) -> list[RunningJob]:
        """The jobs at work; reads one small file each."""
        return [self._running(job) for job in self.working]

    def seconds_left(self, running: list[RunningJob]) -> float | None:
        """Of the whole sweep, by the pace of what it has trained itself so far; None before a tenth of a run."""
        if self.begun is None:
            return None
        trained = sum(1 - self.share_before.get(outcome.job, 0.0) for outcome in self.outcomes if outcome.seconds > 0)
        trained += sum(job.share_here for job in running)
        left = self.total - len(self.outcomes) - sum(job.share for job in running)
        return (time.monotonic() - self.begun) * left / trained if trained > 0.1 else None

    def _running(self, job: Job) -> RunningJob:
        elsewhere = job in self.elsewhere
        status = read_status(job.folder)
        if status is None or status.state != "running":
            return RunningJob(job, 0, 0, None, None, None, elsewhere=elsewhere)
        self._note_share_before(job, status)
        seconds_left = None
        # before that the step says nothing: a run that goes on jumps to its checkpoint's
        if status.first_step is not None:
            # no run begins with its process
            first_seen, since = self.first_seen.setdefault(job, (status.step, time.monotonic()))
            taken = status.step - first_seen
            if taken > 0:
                seconds_left = (time.monotonic() - since) * (status.max_steps - status.step) / taken
        share = status.step / status.max_steps if status.max_steps else 0.0
        return RunningJob(
            job,
            status.step,
            status.max_steps,
            status.loss,
            status.tokens_per_s,
            seconds_left,
            share,
            max(0.0, share - self.share_before.get(job, share)),
            elsewhere,
        )
