"""How long a run takes, over all the sessions that interruptions divide it into."""

from __future__ import annotations

import statistics
import sys
import time
from typing import Any

import torch

from rla_exp.lit.device import DeviceType

# the first steps of a session allocate memory, fill caches and compile
NUM_WARMUP_STEPS = 5
# steps that the throughput shown while training is taken from
NUM_RECENT_STEPS = 50


class Timing:
    """Throughput of the training steps, wall time and peak memory."""

    def __init__(self, device: DeviceType) -> None:
        self._device = device
        self._started = time.monotonic()
        self._seconds_before = 0.0
        self._peak_mib_before = 0.0
        self._warmup_rates: list[float] = []
        self._rates: list[float] = []

    def add_step(self, tokens: int, seconds: float) -> None:
        """Count an optimizer step."""
        rates = self._warmup_rates if len(self._warmup_rates) < NUM_WARMUP_STEPS else self._rates
        rates.append(tokens / seconds)

    @property
    def recent_tokens_per_s(self) -> float:
        """Median throughput of the last steps."""
        return statistics.median(self._rates[-NUM_RECENT_STEPS:] or self._warmup_rates)

    @property
    def seconds(self) -> float:
        """Wall time of the run so far."""
        return self._seconds_before + time.monotonic() - self._started

    def summary(self) -> dict[str, float]:
        """What result.json says: tokens_per_s (median over training steps), seconds (whole run), peak_mib."""
        return {
            "tokens_per_s": statistics.median(self._rates or self._warmup_rates),
            "seconds": self.seconds,
            "peak_mib": max(self._peak_mib_before, peak_mib(self._device)),
        }

    def state_dict(self) -> dict[str, Any]:
        """For the checkpoint."""
        # a run shorter than its warm-up has nothing else to show
        rates = torch.tensor(self._rates or self._warmup_rates, dtype=torch.float64)
        return {"seconds": self.seconds, "peak_mib": self.summary()["peak_mib"], "rates": rates}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Add the sessions before this one."""
        self._seconds_before = state["seconds"]
        self._peak_mib_before = state["peak_mib"]
        self._rates = state["rates"].tolist()


def peak_mib(device: DeviceType) -> float:
    """Peak memory of this process in MiB: allocated on the GPU, or resident on the CPU."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    try:
        import resource
    except ImportError:  # not on Windows
        return 0.0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # macOS counts bytes, Linux KiB
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
