"""Curves of one metric over seeds: mean, sample standard deviation and count a step, with few enough points to draw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
Row = Mapping[str, Any]
"""A line of metrics.jsonl."""


@dataclass(frozen=True)
class Band:
    """One metric of the runs that differ in the seed alone. Arrays are [N], N the steps kept."""

    steps: NDArray[np.int64]
    values: dict[str, Numbers]
    """By seed; NaN where a seed has no value (not logged there, not there yet, or not finite)."""

    @property
    def count(self) -> NDArray[np.int64]:
        """Seeds with a value at each step."""
        counts: NDArray[np.int64] = np.isfinite(self._stacked).sum(axis=0)
        return counts

    @property
    def mean(self) -> Numbers:
        """Mean over the seeds that have a value."""
        present = np.isfinite(self._stacked)
        sums: Numbers = np.where(present, self._stacked, 0.0).sum(axis=0)
        return sums / self.count

    @property
    def sd(self) -> Numbers:
        """Sample standard deviation; NaN where fewer than two seeds have a value."""
        present = np.isfinite(self._stacked)
        squares = np.where(present, self._stacked - self.mean, 0.0) ** 2
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(self.count > 1, np.sqrt(squares.sum(axis=0) / (self.count - 1)), np.nan)

    @property
    def _stacked(self) -> Numbers:
        return np.stack(list(self.values.values()))

    def thinned(self, limit: int) -> Band:
        """At most about `limit` points, chosen by `kept_points` on the mean."""
        kept = kept_points(self.mean, limit)
        return Band(self.steps[kept], {seed: values[kept] for seed, values in self.values.items()})


def band(rows_by_seed: Mapping[str, Sequence[Row]], metric: str) -> Band | None:
    """The metric over all seeds; None where no seed has a finite value. Of a step logged twice the last line counts."""
    series = {
        seed: {
            int(row["step"]): float(row[metric])
            for row in rows
            if isinstance(row.get(metric), int | float) and np.isfinite(row[metric])
        }
        for seed, rows in rows_by_seed.items()
    }
    steps = sorted(set().union(*series.values()))
    if not steps:
        return None
    values = {seed: np.array([points.get(step, np.nan) for step in steps]) for seed, points in series.items() if points}
    return Band(np.array(steps), values)


def kept_points(values: Numbers, limit: int) -> NDArray[np.intp]:
    """Indices that keep a curve's looks: the first, the last, and of every stretch its lowest and its highest point.

    Args:
        values: [N], finite.
        limit: about how many indices to keep, at least 4; a curve of no more points is kept whole.
    """
    if len(values) <= limit:
        return np.arange(len(values))
    kept = {0, len(values) - 1}
    for stretch in np.array_split(np.arange(len(values)), (limit - 2) // 2):
        kept.add(int(stretch[np.argmin(values[stretch])]))
        kept.add(int(stretch[np.argmax(values[stretch])]))
    return np.array(sorted(kept))


def metric_names(rows_by_seed: Mapping[str, Sequence[Row]]) -> list[str]:
    """Every key of the lines but the step, in order of the alphabet."""
    return sorted({key for rows in rows_by_seed.values() for row in rows for key in row} - {"step"})
