"""Run many jobs, some at a time, each in a process of its own."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType

from rla_exp.sweep.devices import visible_devices
from rla_exp.sweep.job import Job, JobOutcome, log_tail
from rla_exp.sweep.queue import dequeue, enqueue
from rla_exp.sweep.recorded import is_finished, note_death, read_status, recorded_outcome
from rla_exp.sweep.server import THREAD_VARIABLES, process_context
from rla_exp.sweep.worker import Ending, run_worker

TICK_SECONDS = 0.5


@dataclass(frozen=True)
class JobStarted:
    """A process was started for the job."""

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
    """A signal asked for the end: no more jobs start, and the running ones write their checkpoints."""

    signal: signal.Signals
    running: tuple[Job, ...]


Event = JobStarted | JobEnded | Tick | Stopping


def run_jobs(
    jobs: Sequence[Job],
    *,
    num_workers: int,
    on_event: Callable[[Event], None] | None = None,
) -> list[JobOutcome]:
    """Run every job that has no result yet, at most `num_workers` at once, in the order given.

    What failed in an earlier sweep is tried again only where the job says `retry_failed`.
    A job that fails, crashes or is killed does not stop the others. SIGINT and SIGTERM are passed on to the workers,
    whose checkpoints are waited for; a second one kills them.

    Args:
        jobs: what to run; several of one folder are one run and share its outcome.
        num_workers: processes at a time, at least 1.
        on_event: called in this thread as things happen, twice a second at least while jobs run.

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
            pool = _Pool(waiting, num_workers, emit, end)
            with _signals_into(pool.received):
                pool.run()
        finally:
            # the pool takes out what it starts
            dequeue(waiting)
    return [outcomes[job.folder] for job in jobs]


def _ignore(_event: Event) -> None:
    """Nobody watches."""


@dataclass
class _Worker:
    """A started job."""

    job: Job
    slot: int
    process: BaseProcess
    started: float
    ending: Ending | None = None


class _Pool:
    """The workers of one call of `run_jobs`."""

    def __init__(
        self,
        waiting: deque[Job],
        num_workers: int,
        emit: Callable[[Event], None],
        end: Callable[[JobOutcome], None],
    ) -> None:
        self.waiting, self.emit, self.end = waiting, emit, end
        self.devices = visible_devices(waiting)
        self.context = process_context(max(job.threads for job in waiting))
        self.free_slots = list(range(num_workers))
        self.workers: dict[Connection, _Worker] = {}
        self.received: list[signal.Signals] = []
        self.passed_on = 0

    def run(self) -> None:
        try:
            while self.workers or (self.waiting and not self.received):
                while self.waiting and self.free_slots and not self.received:
                    self._start(self.waiting.popleft())
                self._collect()
                self._pass_on_signals()
                self.emit(Tick(self._running()))
        finally:
            # only an error of the sweep itself leaves workers here; they write their checkpoints and end
            self._signal_workers(signal.SIGTERM)
            for worker in self.workers.values():
                worker.process.join()
        for job in self.waiting:
            self.end(JobOutcome(job=job, state="interrupted", cause="not started"))

    def _pass_on_signals(self) -> None:
        """The first signal asks the workers to end, a second kills them."""
        while self.passed_on < len(self.received):
            number = self.received[self.passed_on]
            self._signal_workers(number if self.passed_on == 0 else signal.SIGKILL)
            if self.passed_on == 0:
                self.emit(Stopping(number, self._running()))
            self.passed_on += 1

    def _running(self) -> tuple[Job, ...]:
        return tuple(worker.job for worker in self.workers.values())

    def _signal_workers(self, number: signal.Signals) -> None:
        for worker in self.workers.values():
            if worker.process.pid is not None:
                with suppress(ProcessLookupError):
                    os.kill(worker.process.pid, number)

    def _start(self, job: Job) -> None:
        slot = self.free_slots.pop(0)
        environment = {**os.environ, **dict.fromkeys(THREAD_VARIABLES, str(job.threads))}
        if job.device_type == "cuda" and self.devices:
            environment["CUDA_VISIBLE_DEVICES"] = self.devices[slot % len(self.devices)]
        receiver, sender = self.context.Pipe(duplex=False)
        process = self.context.Process(
            target=run_worker,
            args=(job.work, job.folder, environment, sender),
            name=job.name,
        )
        try:
            process.start()
        except (OSError, EOFError) as error:
            receiver.close()
            self.free_slots.append(slot)
            cause = f"no process could be started for it: {error!r}"
            note_death(job.folder, cause)
            self.end(JobOutcome(job=job, state="failed", cause=cause))
            return
        finally:
            sender.close()
        self.workers[receiver] = _Worker(job, slot, process, time.monotonic())
        self.emit(JobStarted(job))

    def _collect(self) -> None:
        for receiver in wait(list(self.workers), timeout=TICK_SECONDS):
            assert isinstance(receiver, Connection)
            worker = self.workers[receiver]
            try:
                worker.ending = receiver.recv()
            except EOFError:
                # the worker held the other end: it is gone, whatever it did or did not say
                del self.workers[receiver]
                receiver.close()
                worker.process.join()
                self.free_slots.append(worker.slot)
                self.end(self._outcome(worker))

    def _outcome(self, worker: _Worker) -> JobOutcome:
        job, seconds = worker.job, time.monotonic() - worker.started
        ending = worker.ending or self._unspoken(worker)
        if ending.state == "done" and not is_finished(job.folder):
            ending = Ending("failed", f"it ended well but left no result.json in {job.folder}")
        if ending.state == "done":
            return JobOutcome(job=job, state="done", seconds=seconds)
        if ending.state == "interrupted":
            note_death(job.folder, ending.cause or "interrupted")
            return JobOutcome(job=job, state="interrupted", cause=ending.cause, seconds=seconds)
        # one that failed before it began says nothing in its status
        note_death(job.folder, ending.cause or "not recorded")
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

    def _unspoken(self, worker: _Worker) -> Ending:
        """Why a worker ended that said nothing: a signal, or a process that left by itself."""
        code = worker.process.exitcode
        if self.received:
            return Ending("interrupted", "killed before its checkpoint; the last one stands")
        if code is not None and code < 0:
            number = -code
            cause = f"killed by signal {number} ({signal.Signals(number).name})"
            if number == signal.SIGKILL:
                cause += ", as the system does when memory runs out"
        else:
            cause = f"its process ended with exit code {code} and no word"
        return Ending("failed", cause)


@contextmanager
def _signals_into(received: list[signal.Signals]) -> Iterator[None]:
    # handlers belong to the main thread; elsewhere the caller's own stay in force
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, _frame: FrameType | None) -> None:
        received.append(signal.Signals(number))

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
