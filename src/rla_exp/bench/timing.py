"""How one call is measured: CUDA events around each repeat with a cold cache, or the clock on a CPU."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

MIN_REPEATS = 5
MAX_REPEATS = 200
FLUSH_BYTES = 256 * 2**20
"""Written before each repeat: more than a second-level cache holds."""


@dataclass(frozen=True)
class Timing:
    """Of one call."""

    ms: float
    """Median."""
    ms_p20: float
    ms_p80: float
    peak_mib: float | None
    """Most memory beyond what was there before; None on a CPU, where nobody counts it."""


def measure(call: Callable[[], object], device: torch.device, seconds: float) -> Timing:
    """Time a call that has run before, for about so many seconds, at least MIN_REPEATS times."""
    if device.type == "cuda":
        peak = _peak_mib(call, device)
        return summarize(_on_gpu(call, device, seconds), peak)
    return summarize(_on_cpu(call, seconds), None)


def summarize(milliseconds: list[float], peak_mib: float | None) -> Timing:
    """Median and the 20th and 80th percentile; of one time, itself."""
    if len(milliseconds) == 1:
        return Timing(ms=milliseconds[0], ms_p20=milliseconds[0], ms_p80=milliseconds[0], peak_mib=peak_mib)
    low, *_, high = statistics.quantiles(milliseconds, n=5, method="inclusive")
    return Timing(statistics.median(milliseconds), low, high, peak_mib)


def repeats(once: float, seconds: float) -> int:
    """How often a call of `once` seconds fits."""
    return max(MIN_REPEATS, min(MAX_REPEATS, int(seconds / max(once, 1e-9))))


def writes(launching: float, writing: float) -> int:
    """How often to write before a repeat, so that the GPU finds its launches queued: for twice the time they take."""
    return max(1, math.ceil(2 * launching / writing))


def _peak_mib(call: Callable[[], object], device: torch.device) -> float:
    torch.cuda.synchronize(device)
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    result = call()
    torch.cuda.synchronize(device)
    del result
    return float(torch.cuda.max_memory_allocated(device) - before) / 2**20


def _on_gpu(call: Callable[[], object], device: torch.device, seconds: float) -> list[float]:
    flush = torch.empty(FLUSH_BYTES, dtype=torch.int8, device=device)

    def run(what: Callable[[], object], count: int, flushes: int) -> list[float]:
        events = []
        for _ in range(count):
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
            for _ in range(flushes):
                flush.zero_()
            start.record()
            what()
            end.record()
            events.append((start, end))
        torch.cuda.synchronize(device)
        return [float(start.elapsed_time(end)) for start, end in events]

    # the first one also brings the clocks up
    once = min(run(call, 2, 1)) / 1000
    count = writes(min(_launching(call, device) for _ in range(3)), min(run(flush.zero_, 3, 1)))
    return run(call, repeats(once, seconds), count)


def _launching(call: Callable[[], object], device: torch.device) -> float:
    """Milliseconds that the CPU takes to launch a call."""
    torch.cuda.synchronize(device)
    start = time.perf_counter()
    call()
    return 1000 * (time.perf_counter() - start)


def _on_cpu(call: Callable[[], object], seconds: float) -> list[float]:
    def once() -> float:
        start = time.perf_counter()
        call()
        return 1000 * (time.perf_counter() - start)

    return [once() for _ in range(repeats(once() / 1000, seconds))]
