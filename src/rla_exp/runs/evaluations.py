"""Scores of a run in evaluations/<suite>.json: written task by task, read by tables without any model.

{
  "suite": "language",
  "settings": {"context": "full", "checkpoint_sha256": ..., ...},   what two files must agree in to be compared
  "provenance": {...},                                              sources, device, torch of all; commit of the first
  "tasks": {"arc_easy": {"version": 1.0, "n": 2376, "seconds": 12.3, "data": "hub:allenai/ai2_arc", "details": [],
                         "num_fewshot": 0,
                         "metrics": {"acc": {"value": 0.44, "stderr": 0.01, "higher_is_better": true}}}}
}
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rla_exp.errors import RunError
from rla_exp.runs.files import read_json, write_json

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

EVALUATION_FOLDER = "evaluations"
OF_THE_MODEL = frozenset({"checkpoint", "checkpoint_sha256", "step"})
"""Settings that tell which model was evaluated, not how."""


@dataclass(frozen=True)
class Score:
    """One number."""

    value: float
    stderr: float | None
    """Standard error of the value over the documents; None where the metric has none."""
    higher_is_better: bool | None


@dataclass(frozen=True)
class TaskScores:
    """What a task came to."""

    version: str | float | None
    n: int
    """Documents."""
    metrics: dict[str, Score]
    seconds: float
    """Wall time, loading of the data included."""
    data: str
    """Where the documents came from: hub:<name>, files:<sha256> or generated."""
    details: list[dict[str, Any]] = field(default_factory=list)
    """Further numbers by document group, as needles have by length and depth."""
    num_fewshot: int | None = None
    """Examples before each question; None where there can be none, or the members of a group differ."""


@dataclass(frozen=True)
class Evaluation:
    """A suite's file; a task that is not in `tasks` is not finished."""

    suite: str
    settings: dict[str, Any]
    """What the numbers follow from beside the model's code: checkpoint, context rule, tokenizer, limit, versions."""
    provenance: dict[str, Any]
    tasks: dict[str, TaskScores]

    @property
    def scores(self) -> dict[str, Score]:
        """By key: `eval/<suite>/<task>/<metric>`."""
        return {
            f"eval/{self.suite}/{task}/{metric}": score
            for task, found in self.tasks.items()
            for metric, score in found.metrics.items()
        }


def conditions(evaluation: Evaluation) -> dict[str, str]:
    """What the scores follow from, in words: settings, evaluating code and device, each task's version and documents.

    Two evaluations compare where they agree in every condition that both have, those of the model left out
    (`OF_THE_MODEL`).
    """
    found = {key: str(value) for key, value in evaluation.settings.items()}
    found |= {f"evaluated by {key}": str(evaluation.provenance.get(key)) for key in ("sources", "device")}
    for name, task in evaluation.tasks.items():
        found |= {f"version of {name}": str(task.version), f"documents of {name}": task.data}
    return found


def differing_conditions(evaluations: Iterable[Evaluation], but: Collection[str] = ()) -> list[str]:
    """The conditions in which evaluations differ that have them, those of `but` left out."""
    values: dict[str, set[str]] = {}
    for evaluation in evaluations:
        for key, value in conditions(evaluation).items():
            values.setdefault(key, set()).add(value)
    return sorted(key for key, found in values.items() if len(found) > 1 and key not in but)


def evaluation_file(run: Path, suite: str) -> Path:
    """Where a suite's scores of the run folder `run` are."""
    return run / EVALUATION_FOLDER / f"{suite}.json"


def read_evaluation(run: Path, suite: str) -> Evaluation | None:
    """A suite's scores; None where there are none.

    Raises:
        RunError: the file is damaged.
    """
    file = evaluation_file(run, suite)
    content = read_json(file)
    if content is None:
        return None
    try:
        tasks = {
            name: TaskScores(**{**task, "metrics": {key: Score(**score) for key, score in task["metrics"].items()}})
            for name, task in content["tasks"].items()
        }
        return Evaluation(content["suite"], content["settings"], content["provenance"], tasks)
    except (KeyError, TypeError, AttributeError) as error:
        raise RunError(f"{file} is damaged ({error}); delete it to have the suite evaluated again") from error


def write_evaluation(run: Path, evaluation: Evaluation) -> None:
    """Replace a suite's scores, atomically.

    Raises:
        RunError: the folder cannot be written.
        ValueError: a number is not finite; it must never reach a table.
    """
    for task, scores in evaluation.tasks.items():
        for name, score in scores.metrics.items():
            if not math.isfinite(score.value):
                raise ValueError(f"{task}: {name} is {score.value}, an evaluation holds finite numbers only")
    file = evaluation_file(run, evaluation.suite)
    _make_folder(run)
    write_json(file, asdict(evaluation))


@contextmanager
def evaluations_locked(run: Path) -> Iterator[None]:
    """Wait for other commands that write scores of the run folder `run`, and keep them waiting (not on Windows).

    Raises:
        RunError: the folder cannot be written.
    """
    file = _make_folder(run) / ".lock"
    try:
        lock = file.open("w")
    except OSError as error:
        raise RunError(f"cannot write {file}: {error.strerror or error}") from error
    # the kernel drops the lock with the process
    with lock:
        if fcntl is not None:
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _make_folder(run: Path) -> Path:
    folder = run / EVALUATION_FOLDER
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise RunError(f"cannot make {folder}: {error.strerror or error}") from error
    return folder


def read_scores(run: Path) -> Mapping[str, Score]:
    """All scores of the run folder `run` by key: `eval/<suite>/<task>/<metric>`.

    Raises:
        RunError: a file is damaged.
    """
    scores: dict[str, Score] = {}
    for file in sorted((run / EVALUATION_FOLDER).glob("*.json")):
        evaluation = read_evaluation(run, file.stem)
        assert evaluation is not None
        scores |= evaluation.scores
    return scores


def evaluation_seconds(run: Path) -> float:
    """Wall time of all evaluations in the run folder `run`."""
    seconds = 0.0
    for file in (run / EVALUATION_FOLDER).glob("*.json"):
        evaluation = read_evaluation(run, file.stem)
        assert evaluation is not None
        # the members of a group each have the time of the whole
        seconds += sum({task.seconds for task in evaluation.tasks.values()})
    return seconds
