"""How many jobs fit on this machine at once, and where each of them runs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from rla_exp.sweep.job import Job


def available_cores() -> int:
    """CPU cores this process may use: its affinity, bounded by the container's quota where there is one."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
    except (OSError, ValueError):
        return cores
    return cores if quota == "max" else max(1, min(cores, int(quota) // int(period)))


def visible_devices(jobs: Sequence[Job]) -> tuple[str, ...]:
    """Names of the GPUs, as CUDA_VISIBLE_DEVICES takes them; none where no job asks for one."""
    if all(job.device_type == "cpu" for job in jobs):
        return ()
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return tuple(name.strip() for name in named.split(",") if name.strip())
    # torch is imported only where a GPU is in question: it takes seconds
    import torch

    return tuple(str(index) for index in range(torch.cuda.device_count()))


def default_num_workers(jobs: Sequence[Job]) -> int:
    """As many jobs as the cores hold, and no more than one a GPU where they use one."""
    threads = max((job.threads for job in jobs), default=1)
    workers = max(1, available_cores() // threads)
    devices = visible_devices(jobs)
    return min(workers, len(devices)) if devices else workers
