"""The statistics of a table: means over seeds and paired differences, each with its 95% interval by Student's t."""

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

    @property
    def half_width(self) -> float | None:
        """Half the 95% interval of the mean; None where n = 1."""
        return None if self.sd is None else _half_width(self.sd, self.n)


@dataclass(frozen=True)
class Difference:
    """Mean of n paired differences to a reference.

    `half_width` is that of the 95% interval and `p` the probability of a mean at least as far from zero where the
    reference is no different (paired t test, two-sided); both None where n = 1.
    """

    reference: str
    n: int
    mean: float
    sd: float | None
    half_width: float | None
    p: float | None

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
    p = None if summary.sd is None else _paired_p(summary.mean, summary.sd, summary.n)
    return Difference(name, summary.n, summary.mean, summary.sd, summary.half_width, p)


def _half_width(sd: float, n: int) -> float:
    return student_t_quantile(n - 1) * sd / math.sqrt(n)


def _paired_p(mean: float, sd: float, n: int) -> float:
    if sd == 0:
        return 1.0 if mean == 0 else 0.0
    return student_t_two_sided(mean / (sd / math.sqrt(n)), n - 1)


@cache
def student_t_quantile(degrees: int) -> float:
    """The t with P(|T| <= t) = 0.95 for Student's distribution with that many degrees of freedom, to about 1e-9."""
    low, high = 0.0, math.pi / 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _central_probability(middle, degrees) < CONFIDENCE else (low, middle)
    return math.sqrt(degrees) * math.tan(low)


def student_t_two_sided(t: float, degrees: int) -> float:
    """P(|T| >= |t|) for Student's distribution with that many degrees of freedom, to about 1e-9."""
    return max(0.0, 1.0 - _central_probability(math.atan(abs(t) / math.sqrt(degrees)), degrees))


def _central_probability(theta: float, degrees: int, intervals: int = 400) -> float:
    """P(|T| <= sqrt(degrees) tan(theta)), by Simpson's rule.

    With t = sqrt(degrees) tan(theta) the density becomes cos(theta)^(degrees - 1) on a bounded interval.
    """
    log_scale = math.lgamma((degrees + 1) / 2) - math.lgamma(degrees / 2) - 0.5 * math.log(math.pi)
    width = theta / intervals
    weights = (1 if i in (0, intervals) else 4 if i % 2 else 2 for i in range(intervals + 1))
    simpson = sum(w * math.cos(i * width) ** (degrees - 1) for i, w in enumerate(weights)) * width / 3
    return 2 * math.exp(log_scale) * simpson
