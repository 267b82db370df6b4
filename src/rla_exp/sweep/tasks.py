"""Work on runs that are finished, as evaluations are: in processes like those of training, here or on a cluster."""

from __future__ import annotations

import signal
from collections import deque
from collections.abc import Callable, Sequence

from rla_exp.errors import InterruptedRun, RunError
from rla_exp.sweep.ending import Ending
from rla_exp.sweep.job import Job
from rla_exp.sweep.processes import ProcessWorkers
from rla_exp.sweep.signals import signals_into
from rla_exp.sweep.time_limit import TimeLimit
from rla_exp.sweep.workers import StartWorkers

POLL_SECONDS = 0.5


def run_tasks(
    jobs: Sequence[Job],
    *,
    num_workers: int,
    on_end: Callable[[Job, Ending], None],
    start_workers: StartWorkers = ProcessWorkers,
    limit: TimeLimit | None = None,
) -> None:
    """Do the work of every job, at most `num_workers` at once; unlike `run_jobs` it asks nothing of the folders.

    Args:
        jobs: of different folders.
        on_end: told of every job that ended by itself.
        limit: when all has to be over.

    Raises:
        InterruptedRun: a signal or the time limit ended it; what runs was asked to end.
    """
    if not jobs:
        return
    waiting, received = deque(jobs), list[signal.Signals]()
    with signals_into(received):
        workers = start_workers(list(jobs), num_workers)
        try:
            while (waiting or workers.running) and not received and not (limit and limit.is_over):
                while waiting and workers.has_room():
                    job = waiting.popleft()
                    try:
                        workers.start(job)
                    except RunError as error:
                        on_end(job, Ending("failed", str(error)))
                for ended in workers.ended(POLL_SECONDS):
                    on_end(ended.job, ended.ending)
        finally:
            left = len(waiting) + len(workers.running)
            # they hold nothing that has to be written: what they have finished is stored
            workers.stop(signal.SIGKILL)
            while workers.running:
                workers.ended(POLL_SECONDS)
    if left:
        reason = received[0].name if received else "time limit"
        raise InterruptedRun(f"{reason}: {left} of {len(jobs)} are left; the same command goes on")
