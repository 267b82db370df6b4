"""What the pages draw, as plain data for JSON: curves and layer diagnostics of a group, and the index of all groups."""

from __future__ import annotations

import json
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from rla_exp.dashboard.curves import Band, band, metric_names
from rla_exp.dashboard.groups import Group

CURVE_POINTS = 240
LAYER_POINTS = 100
DIGITS = 5
"""Significant digits of what is drawn; tables and run pages show result.json's own numbers."""
DIAGNOSTICS = "diag/"
LAYER = re.compile(r"diag/layer(\d+)/(\w+)")


def group_index(groups: Iterable[Group]) -> list[dict[str, Any]]:
    """One entry a group: how to name, filter and load it, and its final numbers."""
    return [
        {
            "id": number,
            "key": group.key,
            "label": group.label,
            "experiment": group.experiment,
            "model": group.model,
            "ablation": group.ablation,
            "data": group.data,
            "seeds": {run.seed: run.key for run in group.runs},
            "states": dict(Counter(run.state for run in group.runs)),
            "layers": any(LAYER.fullmatch(name) for name in metric_names(group.rows_by_seed())),
            "final": {
                key: {"n": value.n, "mean": _number(value.mean), "sd": _number(value.sd)}
                for key, value in group.final.items()
            },
        }
        for number, group in enumerate(groups)
    ]


def curves(group: Group) -> dict[str, Any]:
    """By metric (diagnostics of layers left out): steps, mean, sd, n, and each seed's values."""
    rows = group.rows_by_seed()
    found: dict[str, Any] = {}
    for metric in metric_names(rows):
        whole = None if LAYER.fullmatch(metric) else band(rows, metric)
        if whole is not None:
            thin = whole.thinned(CURVE_POINTS)
            seeds = {seed: _numbers(values) for seed, values in thin.values.items()}
            found[metric] = {**_drawn(thin), "seeds": seeds}
    return found


def layer_curves(group: Group) -> dict[str, Any]:
    """By statistic of the layers: a curve (steps, mean, sd, n) for each layer that has it, by the layer's number."""
    rows = group.rows_by_seed()
    found: dict[str, dict[str, Any]] = defaultdict(dict)
    layers = [(match, name) for name in metric_names(rows) if (match := LAYER.fullmatch(name))]
    for match, name in sorted(layers, key=lambda item: int(item[0][1])):
        whole = band(rows, name)
        if whole is not None:
            found[match[2]][match[1]] = _drawn(whole.thinned(LAYER_POINTS))
    return dict(found)


def script(call: str, *arguments: Any) -> str:
    """A JavaScript statement `call(...)` with JSON arguments that are safe inside HTML too."""
    texts = [json.dumps(argument, ensure_ascii=False, allow_nan=False, separators=(",", ":")) for argument in arguments]
    joined = ",".join(texts).replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
    return f"{call}({joined});\n"


def _drawn(curve: Band) -> Mapping[str, Any]:
    return {
        "steps": curve.steps.tolist(),
        "mean": _numbers(curve.mean),
        "sd": _numbers(curve.sd),
        "n": curve.count.tolist(),
    }


def _numbers(values: np.ndarray[Any, Any]) -> list[float | None]:
    return [_number(value) for value in values.tolist()]


def _number(value: float | None) -> float | None:
    """Rounded to what can be seen; JSON has no NaN."""
    return None if value is None or not math.isfinite(value) else float(f"{value:.{DIGITS}g}")
