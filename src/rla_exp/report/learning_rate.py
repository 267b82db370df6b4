"""The choice of learning rates: for each row the candidate that is best on validation data, by the table's own rule."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

from rla_exp.config import conf_dir
from rla_exp.errors import ConfigError
from rla_exp.report.outcome import Outcome, read_outcome
from rla_exp.report.spec import RunRequest, TableSpec, merge_overrides
from rla_exp.report.spec_file import LearningRateRule
from rla_exp.report.unknown import unknown_name


@dataclass(frozen=True)
class Candidate:
    """A learning rate that was tried on one row."""

    lr: float
    runs: tuple[Outcome, ...]
    score: float | None
    """Mean of the rule's metric over its seeds; None where a run is missing, or where one diverged."""


@dataclass(frozen=True)
class Choice:
    """What was chosen for a row of a study, and from what."""

    row: str
    study: str
    rule: LearningRateRule
    candidates: tuple[Candidate, ...]
    lr: float | None
    """None where runs are missing, or where none was trained to its end and some failed otherwise than by divergence.

    Where every candidate diverged the smallest: the row is shown with what it does.
    """

    @property
    def runs(self) -> list[Outcome]:
        """The runs of all candidates."""
        return [run for candidate in self.candidates for run in candidate.runs]

    @property
    def at_edge(self) -> bool:
        """Whether the chosen one is the smallest or largest candidate: beyond it may be a better one."""
        return not self.all_diverged and self.lr in (min(self.rule.candidates), max(self.rule.candidates))

    @property
    def all_diverged(self) -> bool:
        """Whether no candidate was trained to its end."""
        return self.lr is not None and all(candidate.score is None for candidate in self.candidates)


def selection_runs(spec: TableSpec) -> list[RunRequest]:
    """The runs that choose learning rates, none where the table gives them all: ordinary runs, only shorter.

    Where a rule's share is 1 they are those that the table itself would have of these rates and seeds.
    """
    return [
        RunRequest(_overrides(spec, row.overrides, study_key, rule, lr, seed), row.id, study_key, seed, tried_lr=lr)
        for study_key, rule in spec.rules.items()
        for seed in rule.seeds
        for row in spec.rows
        if spec.studies[study_key].has(row.group, row.key)
        for lr in rule.candidates
    ]


def tie_runs(spec: TableSpec, folders: Mapping[RunRequest, Path]) -> list[RunRequest]:
    """The further runs that decide near ties, where those of selection_runs are there and show any."""
    return _tie_runs(spec, _read(spec, selection_runs(spec), folders))


def _tie_runs(spec: TableSpec, outcomes: Sequence[Outcome]) -> list[RunRequest]:
    return [
        RunRequest(_overrides(spec, row.overrides, study_key, rule, lr, seed), row.id, study_key, seed, tried_lr=lr)
        for study_key, rule in spec.rules.items()
        for row in spec.rows
        for lr in _tied(rule, _of(outcomes, row.id, study_key))
        for seed in rule.tie_seeds
    ]


def choose_learning_rates(spec: TableSpec, folders: Mapping[RunRequest, Path]) -> list[Choice]:
    """The choice for every row of every study that has a rule, from the runs that are there.

    Raises ConfigError where finished runs do not have the rule's metric.
    """
    outcomes = _read(spec, selection_runs(spec), folders)
    outcomes += _read(spec, _tie_runs(spec, outcomes), folders)
    return [
        _choose(row.id, study, rule, _of(outcomes, row.id, study))
        for study, rule in spec.rules.items()
        for row in spec.rows
        if spec.studies[study].has(row.group, row.key)
    ]


def _overrides(
    spec: TableSpec, row: Sequence[str], study: str, rule: LearningRateRule, lr: float, seed: int
) -> tuple[str, ...]:
    merged = merge_overrides(spec.studies[study].overrides, row)
    settings = dict(override.split("=", 1) for override in merged)
    if "trainer.max_steps" not in settings:
        raise ConfigError([f"table {spec.name}: learning_rates.{study} needs trainer.max_steps among the overrides"])
    tried = [f"optim.lr={lr:g}", f"seed={seed}"]
    whole = int(settings["trainer.max_steps"])
    steps = max(1, round(rule.share * whole))
    if steps == whole:
        # the table's own run of this rate and seed: nothing is trained twice
        return merge_overrides(merged, tried)
    # what comes every so many steps of the whole run may never come in a part of it; the first two come at the end
    left_out = ["trainer.validate_every=null", "trainer.checkpoint_every=null"]
    if _diagnostics_every(settings) > steps:
        # those that come stay: without them a run would be another one than those that are finished
        left_out.append("trainer.diagnostics_every=null")
    return merge_overrides(merged, [*left_out, f"trainer.max_steps={steps}", *tried])


def _diagnostics_every(settings: Mapping[str, str]) -> int:
    """Steps between diagnostics, by the overrides or the file of conf/trainer that they name; 0: there are none."""
    every = settings.get("trainer.diagnostics_every", _trainer_diagnostics_every(settings.get("trainer")))
    return int(every) if every.isdecimal() else 0


@cache
def _trainer_diagnostics_every(name: str | None) -> str:
    file = conf_dir() / "trainer" / f"{name}.yaml"
    # a wrong name is told when the run is composed
    content = yaml.safe_load(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return str(content.get("diagnostics_every"))


def _of(outcomes: Sequence[Outcome], row: str, study: str) -> list[Outcome]:
    return [run for run in outcomes if (run.request.row, run.request.study) == (row, study)]


def _candidates(rule: LearningRateRule, runs: Sequence[Outcome]) -> list[Candidate]:
    return [_candidate(lr, rule, [run for run in runs if run.request.tried_lr == lr]) for lr in rule.candidates]


def _scores(rule: LearningRateRule, tried: Sequence[Candidate]) -> dict[float, float]:
    """Of those that were trained to their end; the larger the better."""
    sign = 1 if rule.direction == "max" else -1
    return {candidate.lr: sign * candidate.score for candidate in tried if candidate.score is not None}


def _tied(rule: LearningRateRule, runs: Sequence[Outcome]) -> list[float]:
    """The candidates of a row that the rule's first seeds do not tell apart; none where one is best by itself."""
    if not rule.tie_seeds:
        return []
    first = [run for run in runs if run.request.seed in rule.seeds]
    scored = _scores(rule, _candidates(rule, first))
    if not scored or any(run.state == "missing" for run in first):
        return []
    best = max(scored.values())
    near = [lr for lr, score in scored.items() if best - score <= rule.margin]
    return near if len(near) > 1 else []


def _choose(row: str, study: str, rule: LearningRateRule, runs: Sequence[Outcome]) -> Choice:
    tried = _candidates(rule, runs)
    complete = all(run.state != "missing" for run in runs)
    tied = _tied(rule, runs)
    scored = {lr: score for lr, score in _scores(rule, tried).items() if not tied or lr in tied}
    if scored:
        # of equal scores the smaller learning rate
        chosen: float | None = min(scored, key=lambda lr: (-scored[lr], lr))
    else:
        hopeless = all(any(run.diverged for run in candidate.runs) for candidate in tried)
        chosen = min(rule.candidates) if hopeless else None
    return Choice(row, study, rule, tuple(tried), chosen if complete else None)


def _candidate(lr: float, rule: LearningRateRule, runs: Sequence[Outcome]) -> Candidate:
    done = [run for run in runs if run.state == "done"]
    scores = [run.metrics[rule.metric] for run in done]
    usable = len(done) == len(runs) and all(math.isfinite(score) for score in scores)
    return Candidate(lr, tuple(runs), statistics.mean(scores) if usable else None)


def _read(spec: TableSpec, requests: Sequence[RunRequest], folders: Mapping[RunRequest, Path]) -> list[Outcome]:
    outcomes = [read_outcome(request, folders.get(request)) for request in requests]
    _check_metric(spec, outcomes)
    return outcomes


def _check_metric(spec: TableSpec, outcomes: Sequence[Outcome]) -> None:
    for study, rule in spec.rules.items():
        for run in outcomes:
            if run.request.study == study and run.state == "done" and rule.metric not in run.metrics:
                known = [key for key in sorted(run.metrics) if key.startswith("valid/")]
                raise ConfigError([f"learning_rates.{study}.metric: {unknown_name('key', rule.metric, known)}"])
