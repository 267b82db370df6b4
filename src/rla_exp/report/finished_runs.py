"""Finished runs under some folders, for plots that compare whatever was trained."""

from __future__ import annotations

import glob
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rla_exp.errors import RunError
from rla_exp.report.outcome import MixedRunsError
from rla_exp.runs import RunFolder
from rla_exp.runs.files import expand_home

# what numbers must have in common to be compared
_ORIGINS = ("sources", "device", "corpus_sha256")


@dataclass(frozen=True)
class FinishedRun:
    """A run with a result."""

    path: Path
    group: str
    """<experiment>/<name>-<hash8>: the runs that differ in their seed alone."""
    label: str
    """The model, and its ablation where it is not full."""
    seed: int
    metrics: Mapping[str, float]
    provenance: Mapping[str, Any]

    @property
    def state_bytes(self) -> int:
        """Of one sequence of the longest that its test has, in float32."""
        return int(self.metrics["state_bytes"])


def find_runs(patterns: Sequence[str], *, mixed: bool = False) -> list[FinishedRun]:
    """The finished runs at or below every folder that a pattern names, by group and seed.

    Args:
        patterns: folders or globs.
        mixed: take runs of different sources, devices or corpora together.

    Raises:
        RunError: a pattern leads to no finished run, or a run's files are damaged.
        MixedRunsError: the runs do not compare, and mixed is false.
    """
    found: dict[Path, FinishedRun] = {}
    for pattern in patterns:
        # Path.glob takes no absolute pattern
        folders = map(Path, glob.glob(str(expand_home(pattern))))  # noqa: PTH207
        results = sorted(file for folder in folders for file in folder.glob("**/result.json"))
        if not results:
            raise RunError(f"runs={pattern}: no finished run is there; name folders of runs or a glob, in quotes")
        found |= {file.parent.resolve(): _read(file.parent) for file in results}
    runs = sorted(found.values(), key=lambda run: (run.group, run.seed))
    differing = [key for key in _ORIGINS if len({str(run.provenance.get(key)) for run in runs}) > 1]
    if differing and not mixed:
        raise MixedRunsError(
            f"the {len(runs)} runs differ in their {', '.join(differing)} and do not compare; "
            "name fewer of them, or pass mixed=true to draw them together"
        )
    return runs


def by_group(runs: Sequence[FinishedRun]) -> dict[str, list[FinishedRun]]:
    """The seeds of each group."""
    groups: dict[str, list[FinishedRun]] = {}
    for run in runs:
        groups.setdefault(run.group, []).append(run)
    return groups


def _read(path: Path) -> FinishedRun:
    folder = RunFolder(path)
    config, result = folder.read_config(), folder.read_result()
    if config is None or result is None:
        raise RunError(f"{path} has a result but no config.yaml; remove it or leave it out of runs=")
    try:
        name, ablation, seed = config["model"]["name"], config["ablation"], int(config["seed"])
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(f"{path / 'config.yaml'} is no configuration of a run: {error!r}") from error
    label = name if ablation == "full" else f"{name}, {ablation}"
    group = "/".join(path.resolve().parts[-3:-1])
    return FinishedRun(path, group, label, seed, result.metrics, result.provenance)
