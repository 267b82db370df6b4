"""Diagnostics over training, from metrics.jsonl: layers put together, steps put together."""

from __future__ import annotations

import re
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from rla_exp.report.columns import TraceColumn

Trace = list[tuple[int, float]]
"""Steps and values."""


def trace(lines: Sequence[Mapping[str, Any]], column: TraceColumn) -> Trace:
    """The column's number of each line of metrics.jsonl that has it; what is not finite there is left out."""
    pattern = re.compile(re.escape(column.metric).replace(r"\*", r"\d+"))
    combine = max if column.layers == "max" else statistics.fmean
    found = []
    for line in lines:
        values = [value for key, value in line.items() if pattern.fullmatch(key) and value is not None]
        if values:
            found.append((int(line["step"]), float(combine(values))))
    return found


def put_together(points: Trace, column: TraceColumn) -> float | None:
    """One number of a whole trace; None where it is empty."""
    values = [value for _, value in points]
    if not values:
        return None
    match column.steps:
        case "max":
            return max(values)
        case "mean":
            return statistics.fmean(values)
        case "last":
            return values[-1]
