"""Workers on this machine: processes forked from a server, each seeing one GPU where it needs one."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from rla_exp.errors import RunError
from rla_exp.sweep.devices import visible_devices
from rla_exp.sweep.ending import Ending, unspoken
from rla_exp.sweep.job import Job
from rla_exp.sweep.server import THREAD_VARIABLES, process_context
from rla_exp.sweep.worker import run_worker
from rla_exp.sweep.workers import Ended


@dataclass
class _Worker:
    """A started job."""

    job: Job
    device: str | None
    process: BaseProcess
    started: float
    ending: Ending | None = None


class ProcessWorkers:
    """At most `num_workers` processes at a time; where there are more than GPUs, several share one."""

    def __init__(self, jobs: Sequence[Job], num_workers: int) -> None:
        self.num_workers = num_workers
        self.devices = visible_devices(jobs)
        self.context = process_context(max(job.threads for job in jobs))
        self.workers: dict[Connection, _Worker] = {}

    @property
    def running(self) -> tuple[Job, ...]:
        """The jobs that have a process."""
        return tuple(worker.job for worker in self.workers.values())

    def has_room(self) -> bool:
        """Whether one more process may start now."""
        return len(self.workers) < self.num_workers

    def adopt(self, job: Job) -> bool:  # noqa: ARG002 - a cluster's workers need it
        """A process does not outlive its sweep by more than its last checkpoint."""
        return False

    def start(self, job: Job) -> None:
        """Fork a process for the job; RunError where the system has none left."""
        device = self._least_used_device() if job.device_type == "cuda" else None
        environment = {**os.environ, **dict.fromkeys(THREAD_VARIABLES, str(job.threads))}
        if device is not None:
            environment["CUDA_VISIBLE_DEVICES"] = device
        receiver, sender = self.context.Pipe(duplex=False)
        process = self.context.Process(
            target=run_worker, args=(job.work, job.folder, environment, sender), name=job.name
        )
        try:
            process.start()
        except (OSError, EOFError) as error:
            receiver.close()
            raise RunError(f"no process could be started for it: {error!r}") from error
        finally:
            sender.close()
        self.workers[receiver] = _Worker(job, device, process, time.monotonic())

    def ended(self, timeout: float) -> list[Ended]:
        """The jobs whose processes are gone."""
        if not self.workers:
            time.sleep(timeout)
        ended = []
        for receiver in wait(list(self.workers), timeout=timeout):
            assert isinstance(receiver, Connection)
            worker = self.workers[receiver]
            try:
                worker.ending = receiver.recv()
            except (EOFError, OSError):
                # the worker held the other end: it is gone, whatever it did or did not say
                del self.workers[receiver]
                receiver.close()
                worker.process.join()
                ending = worker.ending or unspoken(worker.process.exitcode)
                ended.append(Ended(worker.job, ending, time.monotonic() - worker.started))
        return ended

    def stop(self, number: signal.Signals) -> None:
        """Send every process the signal."""
        for worker in self.workers.values():
            if worker.process.pid is not None:
                with suppress(ProcessLookupError):
                    os.kill(worker.process.pid, number)

    def _least_used_device(self) -> str | None:
        if not self.devices:
            return None
        used = Counter(worker.device for worker in self.workers.values())
        return min(self.devices, key=lambda device: used[device])
