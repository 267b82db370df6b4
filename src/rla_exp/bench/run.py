"""The whole benchmark: first calls side by side, then every time with the device to itself."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from rla_exp.bench.cases import Case
from rla_exp.bench.implementations import named
from rla_exp.bench.processes import Worker
from rla_exp.runs.environment import device_name

PACKAGES = ("torch", "triton", "nvidia-cuda-nvcc", "fla-core", "flash-linear-attention", "flash-qla", "tilelang")
MAX_SECONDS = 400.0
"""For one case, compilation included."""
MAX_WARMING = 8
"""Processes that make their first calls side by side; each holds the tensors of one shape."""

Content = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class BenchSettings:
    """What a benchmark measures."""

    cases: Sequence[Case]
    implementations: Sequence[str]
    """Names; those that are not installed are left out."""
    device: str
    backend: str
    """Of ours."""
    seconds: float
    """For the repeats of a case."""
    limit: float | None
    """Begin no case after so many seconds."""
    command: str
    commit: str
    max_seconds: float = MAX_SECONDS


@dataclass(frozen=True)
class _Group:
    """Cases that one process measures."""

    worker: Worker
    cases: Sequence[Case]


def run_benchmark(settings: BenchSettings, on_row: Callable[[Content], None]) -> Content:
    """Measure every case that an implementation has.

    Args:
        on_row: called with what is known so far after every case, so that an interruption loses none.

    Returns:
        The content of benchmarks/<gpu>.json: the fields of the contract, and beside them `backend`, `limits` (see
        Limits) and `failures`, rows without times and with a `reason`.
    """
    start = time.monotonic()
    content: Content = {
        "gpu": device_name(settings.device),
        "versions": versions(settings.device),
        "commit": settings.commit,
        "command": settings.command,
        "date": time.strftime("%Y-%m-%d"),
        "backend": settings.backend,
        "limits": None,
        "rows": [],
        "failures": [],
    }

    def is_late() -> bool:
        return settings.limit is not None and time.monotonic() - start > settings.limit

    with ExitStack() as stack:
        groups = [*_groups(settings, stack)]
        # what the first calls take is compilation, which a CPU has none of
        early = [g for g in groups if settings.device != "cpu" and not g.worker.implementation.autotunes]
        with ThreadPoolExecutor(min(MAX_WARMING, os.cpu_count() or 1)) as pool:
            # what fails here fails again below, where it is recorded
            for _ in pool.map(lambda group: _warm(group, is_late), early):
                pass
        if groups and not is_late():
            limits = groups[0].worker.limits(settings.seconds)
            content["limits"] = None if "failure" in limits else limits
        for group in groups:
            for case in group.cases:
                _measure(group.worker, case, settings, content, late=is_late())
                on_row(content)
            group.worker.close()
    return content


def _groups(settings: BenchSettings, stack: ExitStack) -> Iterator[_Group]:
    for implementation in named(settings.implementations):
        if not implementation.is_installed:
            continue
        groups: dict[tuple[object, ...], list[Case]] = {}
        for case in settings.cases:
            if implementation.computes(case):
                key = () if settings.device == "cpu" else implementation.group_of(case)
                groups.setdefault(key, []).append(case)
        for cases in groups.values():
            worker = Worker(implementation, settings.device, settings.backend, settings.max_seconds)
            stack.callback(worker.close)
            yield _Group(worker, cases)


def _warm(group: _Group, is_late: Callable[[], bool]) -> None:
    for case in group.cases:
        if is_late() or group.worker.warm(case).get("broken"):
            return


def _measure(worker: Worker, case: Case, settings: BenchSettings, content: Content, *, late: bool) -> None:
    reply = {"failure": "not run: out of time"} if late else worker.time(case, settings.seconds)
    label = worker.implementation.label
    if "failure" in reply:
        content["failures"].append({**case.to_row(label), "reason": reply["failure"]})
        return
    note = reply.pop("note")
    content["rows"].append({**case.to_row(label and label + note), **reply})


def versions(device: str) -> dict[str, str]:
    """Of the packages that compute, those that are installed."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    if device == "cuda":
        import torch

        found["cuda"] = str(torch.version.cuda)
    return found
