"""Runs that differ in the seed alone, and a short name that tells such groups apart."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean, stdev
from typing import Any

from rla_exp.config.run_identity import LEFT_OUT
from rla_exp.dashboard.records import RunRecord

NAMED = ("model.name", "ablation", "data.name")
"""Settings that the name of a group begins with."""
MOST_DIFFERENCES = 3
"""Settings that a name shows beside them; more would be unreadable, and the run's page has all."""


@dataclass(frozen=True)
class Group:
    """The runs of one configuration, by seed."""

    key: str
    """<experiment>/<name>-<hash8>."""
    label: str
    """Unique within the experiment."""
    runs: tuple[RunRecord, ...]

    @property
    def experiment(self) -> str:
        """The study that the runs belong to."""
        return self.runs[0].experiment

    @property
    def model(self) -> str:
        """The backbone; empty where the configuration cannot be read."""
        return str(self.runs[0].setting("model.name") or "")

    @property
    def ablation(self) -> str:
        """The ablation; empty where the configuration cannot be read."""
        return str(self.runs[0].setting("ablation") or "")

    @property
    def data(self) -> str:
        """The data preset; empty where the configuration cannot be read."""
        return str(self.runs[0].setting("data.name") or "")

    @cached_property
    def final(self) -> dict[str, FinalValue]:
        """Each metric of result.json over the finished seeds."""
        results = [run.result.metrics for run in self.runs if run.result is not None]
        keys = sorted({key for metrics in results for key in metrics})
        return {key: FinalValue.of([metrics[key] for metrics in results if key in metrics]) for key in keys}

    def rows_by_seed(self) -> dict[str, list[dict[str, Any]]]:
        """The lines of metrics.jsonl of each seed."""
        return {run.seed: run.rows for run in self.runs}


@dataclass(frozen=True)
class FinalValue:
    """A number over seeds."""

    n: int
    mean: float
    sd: float | None
    """Sample standard deviation; None of a single value."""

    @classmethod
    def of(cls, values: Sequence[float]) -> FinalValue:
        """Of at least one value."""
        return cls(len(values), fmean(values), stdev(values) if len(values) > 1 else None)


def group_runs(records: Sequence[RunRecord]) -> list[Group]:
    """The groups of all runs, in the order of their keys."""
    by_key: dict[str, list[RunRecord]] = defaultdict(list)
    for record in records:
        by_key[record.group].append(record)
    labels = _labels(by_key)
    return [Group(key, labels[key], tuple(runs)) for key, runs in by_key.items()]


def _labels(by_key: Mapping[str, Sequence[RunRecord]]) -> dict[str, str]:
    """Model, ablation and data; groups that share these are told apart by the settings that differ, or by the hash."""
    alike: dict[tuple[str, str], list[str]] = defaultdict(list)
    for key, runs in by_key.items():
        alike[runs[0].experiment, _base(runs[0])].append(key)
    labels: dict[str, str] = {}
    for (_, base), keys in alike.items():
        flat = {key: _flat(by_key[key][0].config) for key in keys}
        differing = [
            name
            for name in sorted({name for settings in flat.values() for name in settings})
            if len({repr(settings.get(name)) for settings in flat.values()}) > 1
        ]
        for key in keys:
            parts = [
                f"{name.rpartition('.')[2]}={_short(flat[key].get(name))}" for name in differing[:MOST_DIFFERENCES]
            ]
            labels[key] = " · ".join([base, *parts])
        if len({labels[key] for key in keys}) < len(keys):
            labels.update({key: f"{base} · {key.rpartition('-')[2]}" for key in keys})
    return labels


def _short(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _base(run: RunRecord) -> str:
    parts = [str(run.setting(name)) for name in NAMED if run.setting(name) is not None]
    return " · ".join(parts) or run.group.rpartition("/")[2]


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Settings that count for the numbers, as dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        name = f"{prefix}{key}"
        if name in LEFT_OUT:
            continue
        if isinstance(value, Mapping):
            flat.update(_flat(value, f"{name}."))
        else:
            flat[name] = value
    return flat
