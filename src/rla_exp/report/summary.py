"""The statistics of a table: mean and sample sd over seeds, paired differences with their 95% interval."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Summary:
    """n values at a glance. `sd` is the sample standard deviation (n - 1), None where n = 1."""

    n: int
    mean: float
    sd: float | None
    min: float
    max: float


@dataclass(frozen=True)
class Difference:
    """Mean of n paired differences to a reference. `half_width` is that of the 95% interval, None where n = 1."""

    reference: str
    n: int
    mean: float
    sd: float | None
    half_width: float | None

    @property
    def told_apart(self) -> bool:
        """Whether the interval leaves out zero; one pair alone tells nothing apart."""
        return self.half_width is not None and abs(self.mean) > self.half_width


def summarize(values: Iterable[float]) -> Summary | None:
    """Summary of the values, None where there are none."""
    values = list(values)
    if not values:
        return None
    sd = statistics.stdev(values) if len(values) > 1 else None
    return Summary(len(values), statistics.mean(values), sd, min(values), max(values))


def paired_difference(values: Mapping[int, float], reference: Mapping[int, float], name: str) -> Difference | None:
    """values - reference over the seeds that both have, None where they share none. `name` is the reference's."""
    summary = summarize(values[seed] - reference[seed] for seed in sorted(values.keys() & reference.keys()))
    if summary is None:
        return None
    half_width = None
    if summary.sd is not None:
        half_width = student_t_quantile(summary.n - 1) * summary.sd / math.sqrt(summary.n)
    return Difference(name, summary.n, summary.mean, summary.sd, half_width)


@cache
def student_t_quantile(degrees: int) -> float:
    """The t with P(|T| <= t) = 0.95 for Student's distribution with that many degrees of freedom, to about 1e-9."""
    # with t = sqrt(degrees) tan(theta) the density becomes cos(theta)^(degrees - 1) on a bounded interval
    log_scale = math.lgamma((degrees + 1) / 2) - math.lgamma(degrees / 2) - 0.5 * math.log(math.pi)

    def central_probability(theta: float, intervals: int = 400) -> float:
        width = theta / intervals
        weights = (1 if i in (0, intervals) else 4 if i % 2 else 2 for i in range(intervals + 1))
        simpson = sum(w * math.cos(i * width) ** (degrees - 1) for i, w in enumerate(weights)) * width / 3
        return 2 * math.exp(log_scale) * simpson

    low, high = 0.0, math.pi / 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if central_probability(middle) < CONFIDENCE else (low, middle)
    return math.sqrt(degrees) * math.tan(low)
