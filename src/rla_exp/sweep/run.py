"""A whole sweep as a person sees it: the display while it runs, the summary when it is over."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import TextIO

from rich.console import RenderableType

from rla_exp.sweep.devices import default_num_workers
from rla_exp.sweep.display import sweep_display
from rla_exp.sweep.job import Job, JobOutcome
from rla_exp.sweep.pool import run_jobs
from rla_exp.sweep.processes import ProcessWorkers
from rla_exp.sweep.summary import summarize
from rla_exp.sweep.time_limit import TimeLimit
from rla_exp.sweep.workers import StartWorkers


def run_sweep(
    jobs: Sequence[Job],
    *,
    num_workers: int | None = None,
    detail: Callable[[], RenderableType] | None = None,
    stream: TextIO | None = None,
    start_workers: StartWorkers = ProcessWorkers,
    limit: TimeLimit | None = None,
) -> list[JobOutcome]:
    """Run jobs under a display and write the summary; the arguments are those of `run_jobs` and `sweep_display`.

    Args:
        num_workers: None: as many as the cores, or the GPUs, hold.

    Returns:
        One outcome a job, in the order of the jobs.
    """
    stream = stream or sys.stdout
    num_workers = num_workers or default_num_workers(jobs)
    total = len({job.folder for job in jobs})
    with sweep_display(total, detail=detail, stream=stream) as display:
        outcomes = run_jobs(jobs, num_workers=num_workers, on_event=display, start_workers=start_workers, limit=limit)
    stream.write(summarize(outcomes) + "\n")
    stream.flush()
    return outcomes
