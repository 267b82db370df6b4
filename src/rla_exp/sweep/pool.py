"""Run many jobs, some at a time, each in a process of its own."""

from __future__ import annotations

import signal
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

from rla_exp.errors import RunError
from rla_exp.runs.lock import is_locked
from rla_exp.sweep.ending import Ending, outcome_of
from rla_exp.sweep.events import Event, JobElsewhere, JobEnded, JobReleased, JobStarted, Stopping, Tick
from rla_exp.sweep.job import Job, JobOutcome
from rla_exp.sweep.processes import ProcessWorkers
from rla_exp.sweep.queue import dequeue, enqueue
from rla_exp.sweep.recorded import is_finished, recorded_failure, recorded_outcome
from rla_exp.sweep.signals import signals_into
from rla_exp.sweep.time_limit import TimeLimit
from rla_exp.sweep.workers import StartWorkers, Workers

TICK_SECONDS = 0.5


def run_jobs(
    jobs: Sequence[Job],
    *,
    num_workers: int,
    on_event: Callable[[Event], None] | None = None,
    start_workers: StartWorkers = ProcessWorkers,
    limit: TimeLimit | None = None,
) -> list[JobOutcome]:
    """Run every job that has no result yet, at most `num_workers` at once, in the order given.

    What failed in an earlier sweep is tried again only where the job says `retry_failed`. What another sweep trains
    is waited for: its result is this sweep's too, and where it is left unfinished this sweep goes on with it.
    A job that fails, crashes or is killed does not stop the others. SIGINT and SIGTERM are passed on to the workers,
    whose checkpoints are waited for; a second one kills them.

    Args:
        jobs: what to run; several of one folder are one run and share its outcome.
        num_workers: processes at a time, at least 1.
        on_event: called in this thread as things happen, twice a second at least while jobs run.
        start_workers: where the processes are: on this machine, or on a cluster.
        limit: when all has to be over: what would not end before is not begun, and what runs then is interrupted.

    Returns:
        One outcome a job, in the order of the jobs.

    Raises:
        ValueError: num_workers is below 1.
        RunError: no run's folder can be written; nothing was started.
    """
    if num_workers < 1:
        raise ValueError(f"num_workers is {num_workers}, allowed: 1 or more")
    outcomes: dict[Path, JobOutcome] = {}
    emit = on_event or _ignore

    def end(outcome: JobOutcome) -> None:
        outcomes[outcome.job.folder] = outcome
        emit(JobEnded(outcome))

    waiting: deque[Job] = deque()
    for job in {job.folder: job for job in reversed(jobs)}.values():
        outcome = recorded_outcome(job)
        if outcome is None:
            waiting.appendleft(job)
        else:
            end(outcome)
    if waiting:
        try:
            enqueue(waiting)
            pool = _Pool(waiting, start_workers(list(waiting), num_workers), emit, end, limit)
            with signals_into(pool.received):
                pool.run()
        finally:
            # the pool takes out what it starts
            dequeue(waiting)
    return [outcomes[job.folder] for job in jobs]


def _ignore(_event: Event) -> None:
    """Nobody watches."""


class _Pool:
    """The jobs of one call of `run_jobs`, and their workers."""

    def __init__(
        self,
        waiting: deque[Job],
        workers: Workers,
        emit: Callable[[Event], None],
        end: Callable[[JobOutcome], None],
        limit: TimeLimit | None,
    ) -> None:
        self.waiting, self.workers, self.emit, self.end, self.limit = waiting, workers, emit, end, limit
        self.elsewhere: dict[Job, float] = {}
        """Runs that other sweeps train, and since when they are waited for."""
        self.received: list[signal.Signals] = []
        self.passed_on = 0
        self.is_late = False
        """The time limit was reached."""

    def run(self) -> None:
        try:
            while self.workers.running or ((self._may_start() or self.elsewhere) and not self.is_stopping):
                self._start_what_fits()
                self._collect()
                self._look_elsewhere()
                self._pass_on_signals()
                self._keep_to_limit()
                self.emit(Tick(self.workers.running))
        finally:
            # only an error of the sweep itself leaves workers here; they write their checkpoints and end
            self.workers.stop(signal.SIGTERM)
            while self.workers.running:
                self.workers.ended(TICK_SECONDS)
        for job in self.waiting:
            # without a signal only the time limit leaves jobs here
            cause = "not started" if self.received else "not started: the time limit"
            self.end(JobOutcome(job=job, state="interrupted", cause=cause))
        for job in self.elsewhere:
            self.end(JobOutcome(job=job, state="interrupted", cause="another sweep trains it"))

    @property
    def is_stopping(self) -> bool:
        """Whether nothing is to begin any more."""
        return bool(self.received) or self.is_late

    def _may_start(self) -> Job | None:
        """The next job; None where none waits that would end in time."""
        return next((job for job in self.waiting if self.limit is None or self.limit.has_room_for(job)), None)

    def _start_what_fits(self) -> None:
        while self.workers.has_room() and not self.is_stopping:
            job = self._may_start()
            if job is None:
                return
            self.waiting.remove(job)
            if is_finished(job.folder):
                # by another sweep, since this one looked
                self.end(JobOutcome(job=job, state="adopted"))
            elif self.workers.adopt(job):
                self.emit(JobStarted(job))
            elif is_locked(job.folder):
                self._leave_elsewhere(job)
            else:
                self._start(job)

    def _start(self, job: Job) -> None:
        try:
            self.workers.start(job)
        except RunError as error:
            self.end(outcome_of(job, Ending("failed", str(error)), 0.0))
        else:
            self.emit(JobStarted(job))

    def _collect(self) -> None:
        for ended in self.workers.ended(TICK_SECONDS):
            if ended.ending.state == "held":
                # another sweep was faster by an instant
                self._leave_elsewhere(ended.job)
                continue
            ending = ended.ending
            if self.is_stopping and not ending.spoken:
                ending = Ending("interrupted", "killed before its checkpoint; the last one stands")
            self.end(outcome_of(ended.job, ending, ended.seconds))

    def _leave_elsewhere(self, job: Job) -> None:
        self.elsewhere[job] = time.monotonic()
        self.emit(JobElsewhere(job))

    def _look_elsewhere(self) -> None:
        for job, since in list(self.elsewhere.items()):
            seconds = time.monotonic() - since
            if is_finished(job.folder):
                outcome: JobOutcome | None = JobOutcome(job=job, state="adopted", seconds=seconds)
            elif is_locked(job.folder):
                continue
            else:
                outcome = recorded_failure(job)
            del self.elsewhere[job]
            if outcome is not None:
                self.end(outcome)
            else:
                # the other was stopped or killed
                self.waiting.appendleft(job)
                self.emit(JobReleased(job))

    def _pass_on_signals(self) -> None:
        """The first signal asks the workers to end, a second kills them."""
        while self.passed_on < len(self.received):
            number = self.received[self.passed_on]
            self.workers.stop(number if self.passed_on == 0 else signal.SIGKILL)
            if self.passed_on == 0:
                self.emit(Stopping(number.name, self.workers.running))
            self.passed_on += 1

    def _keep_to_limit(self) -> None:
        if self.limit is not None and self.limit.is_over and not self.is_stopping:
            self.is_late = True
            self.workers.stop(signal.SIGTERM)
            self.emit(Stopping("time limit", self.workers.running))
