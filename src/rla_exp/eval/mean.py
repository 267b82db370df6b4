"""Mean and standard error."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from rla_exp.runs.evaluations import Score


def mean_score(values: Sequence[float]) -> Score:
    """The mean, of which more is better, and its standard error (None for one value)."""
    stderr = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else None
    return Score(statistics.fmean(values), stderr, True)
