"""What became of each run that a table needs, read from the files of its folder and from nothing else."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from rla_exp.errors import NonFiniteError, UserError
from rla_exp.report.columns import ScoreColumn, TraceColumn
from rla_exp.report.spec import RunRequest, TableSpec
from rla_exp.runs import RunFolder
from rla_exp.runs.evaluations import Evaluation, conditions, differing_conditions, read_evaluation


class MixedRunsError(UserError):
    """The runs of one table come from several sources, devices or corpora, so that they cannot be compared."""


@dataclass(frozen=True)
class Outcome:
    """One run. done: its numbers are there. failed: it ended without usable ones. missing: neither (yet)."""

    request: RunRequest
    state: Literal["done", "failed", "missing"]
    folder: str
    """<experiment>/<name>-<hash8>/seed<k>, free of the machine's paths; empty where the run's folder is unknown."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    timing: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    error: str | None = None
    diverged: bool = False
    """It failed because a loss or gradient was not finite: a finding, no fault."""
    evaluations: Mapping[str, Evaluation] = field(default_factory=dict)
    """By suite, where the table shows scores."""
    environment: Mapping[str, Any] = field(default_factory=dict)
    """What it was started on; empty where nothing is known of that."""
    lines: Sequence[Mapping[str, Any]] = ()
    """Of metrics.jsonl, where the table shows what happened over training."""

    @property
    def scores(self) -> dict[str, float]:
        """By eval/<suite>/<task>/<metric>, as columns name them."""
        found = (evaluation.scores for evaluation in self.evaluations.values())
        return {key: score.value for scores in found for key, score in scores.items()}


def read_outcomes(spec: TableSpec, folders: Mapping[RunRequest, Path]) -> list[Outcome]:
    """One outcome a run of the table. A run whose folder is not given is missing."""
    traced = {column.study for column in spec.columns.values() if isinstance(column, TraceColumn)}
    return [
        _with_more(
            read_outcome(request, folders.get(request)),
            folders.get(request),
            suites=list(spec.score_tasks(request.study)),
            traced=request.study in traced,
        )
        for request in spec.runs()
    ]


def read_outcome(request: RunRequest, path: Path | None) -> Outcome:
    """One run's end and numbers. A run whose folder is not given is missing."""
    if path is None:
        return Outcome(request, "missing", "")
    name = "/".join(path.parts[-3:])
    folder = RunFolder(path)
    environment = folder.read_environment() or {}
    result = folder.read_result()
    if result is None:
        status = folder.read_status()
        if status is not None and status.state == "failed":
            diverged = (status.error or "").startswith(f"{NonFiniteError.__name__}:")
            return Outcome(request, "failed", name, error=status.error, diverged=diverged, environment=environment)
        return Outcome(request, "missing", name)
    wrong = [key for key, value in {**result.metrics, **result.timing}.items() if not math.isfinite(value)]
    return Outcome(
        request,
        "failed" if wrong else "done",
        name,
        result.metrics,
        result.timing,
        result.provenance,
        f"not finite: {', '.join(sorted(wrong))}" if wrong else None,
        diverged=bool(wrong),
        environment=environment,
    )


def _with_more(run: Outcome, path: Path | None, *, suites: Sequence[str], traced: bool) -> Outcome:
    if path is None or run.state == "missing":
        return run
    found = {suite: read_evaluation(path, suite) for suite in suites}
    evaluations = {suite: evaluation for suite, evaluation in found.items() if evaluation is not None}
    return replace(run, evaluations=evaluations, lines=RunFolder(path).read_metrics() if traced else ())


def each_once(outcomes: Iterable[Outcome]) -> list[Outcome]:
    """Each run once: rows may share one, and a candidate for a learning rate may be a run of the table."""
    found: dict[tuple[str, str | RunRequest], Outcome] = {}
    for run in outcomes:
        # those without a folder are told apart by what asks for them
        found.setdefault((run.request.study, run.folder or run.request), run)
    return list(found.values())


def absent_scores(spec: TableSpec, outcomes: Sequence[Outcome]) -> list[str]:
    """The keys of the columns that show scores which not one run has."""
    return [
        key
        for key, column in spec.columns.items()
        if isinstance(column, ScoreColumn)
        and not any(column.key in run.scores for run in outcomes if run.request.study == column.study)
    ]


def lacking_scores(spec: TableSpec, outcomes: Sequence[Outcome]) -> list[str]:
    """A line for each column of scores that finished runs lack, though others have them."""
    lines = []
    for column in spec.columns.values():
        if isinstance(column, ScoreColumn):
            done = [run for run in outcomes if run.state == "done" and run.request.study == column.study]
            lacking = [run for run in done if column.key not in run.scores]
            if lacking:
                task = f"{column.suite}/{column.task}"
                lines.append(f"{column.label}: {len(lacking)} of {len(done)} finished runs are not scored on {task}")
    return lines


@dataclass(frozen=True)
class Origin:
    """The sources, devices, corpora or conditions of scores that runs have (`what` of these), each with its runs."""

    what: str
    runs: Mapping[str, Sequence[Outcome]]
    files: str = "these runs' folders"
    """What to remove of runs that differ from the others."""

    @property
    def is_mixed(self) -> bool:
        return len(self.runs) > 1

    def describe(self) -> str:
        """'device cpu', 'scores of niah: limit 1', or 'device differs: cpu (40 runs), NVIDIA H100 (12 runs)'."""
        if not self.is_mixed:
            return f"{self.what} {', '.join(self.runs)}"
        parts = [f"{value} ({len(runs)} run{'s' if len(runs) > 1 else ''})" for value, runs in self.runs.items()]
        return f"{self.what.removesuffix(':')} differs: {', '.join(parts)}"


def read_origins(spec: TableSpec, outcomes: Iterable[Outcome]) -> list[Origin]:
    """Where the finished runs come from: source and device over the whole table, the corpus for each study."""
    done = [outcome for outcome in each_once(outcomes) if outcome.provenance]
    origins = [
        _origin("source", done, lambda run: _short(run.provenance.get("sources"))),
        _origin("device", done, lambda run: str(run.provenance.get("device"))),
    ]
    # the order of sums hangs on a kernel's tiles
    tuned = _origin("autotuned tiles", done, lambda run: "yes" if run.provenance.get("autotuned") else "no")
    if "yes" in tuned.runs:
        origins.append(tuned)
    for study in spec.studies.values():
        runs = [run for run in done if run.request.study == study.key]
        corpus = _origin(f"corpus of {study.label}", runs, lambda run: _short(run.provenance.get("corpus_sha256")))
        # generated data has no corpus
        if set(corpus.runs) - {"none"}:
            origins.append(corpus)
        origins += [_conditions(suite, runs) for suite in spec.score_tasks(study.key)]
    return origins


def _conditions(suite: str, runs: Sequence[Outcome]) -> Origin:
    """The conditions of a suite's scores: those that differ, or what a reader asks for first."""
    scored = [run for run in runs if suite in run.evaluations]
    # each run has a checkpoint of its own
    differing = differing_conditions((run.evaluations[suite] for run in scored), but={"checkpoint_sha256"})

    def words(run: Outcome) -> str:
        found = conditions(run.evaluations[suite])
        shown = [key for key in differing or ("context", "limit", "lm_eval") if key in found]
        return ", ".join(f"{key} {found[key]}" for key in shown)

    return _origin(f"scores of {suite}:", scored, words, files=f"evaluations/{suite}.json in these runs' folders")


def refuse_mixed(origins: Iterable[Origin]) -> None:
    """Raise MixedRunsError naming the runs that differ from the most frequent origin."""
    problems: list[str] = []
    files: list[str] = []
    for origin in origins:
        if origin.is_mixed:
            usual = max(origin.runs, key=lambda value: len(origin.runs[value]))
            problems.append(f"  - {origin.describe()}; not {usual}:")
            problems += [
                f"      {run.folder} ({value})" for value, runs in origin.runs.items() if value != usual for run in runs
            ]
            files.append(origin.files)
    if problems:
        raise MixedRunsError(
            "the runs of this table cannot be compared:\n"
            + "\n".join(problems)
            + f"\nRemove {', '.join(dict.fromkeys(files))} and run the table again, or pass mixed=true to show them "
            "all the same."
        )


def _origin(what: str, runs: Iterable[Outcome], value: Callable[[Outcome], str], **more: str) -> Origin:
    by_value: dict[str, list[Outcome]] = {}
    for run in runs:
        by_value.setdefault(value(run), []).append(run)
    return Origin(what, by_value, **more)


def _short(sha256: object) -> str:
    return "none" if sha256 is None else str(sha256)[:12]
