"""Hyperparameter search: Optuna proposes, the sweep trains, a validation metric decides.

A search is a function of its settings: the sampler is seeded and trials are told in their order. The same command
proposes the same trials again, finds their finished runs, and goes on where it stopped; nothing else is stored.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep
from hydra.errors import HydraException

from rla_exp.errors import ConfigError, InterruptedRun
from rla_exp.runs import read_result
from rla_exp.runs.files import write_json
from rla_exp.sweep.job import JobOutcome

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.trial import Trial

RunTrials = Callable[[Sequence[Sequence[str]]], Sequence[JobOutcome]]
"""Trains runs, each given by its overrides, to their ends."""


@dataclass(frozen=True, kw_only=True)
class SearchSettings:
    """The settings of `sweeper=optuna`; conf/sweeper/optuna.yaml says what they mean."""

    metric: str = "valid/loss"
    direction: Literal["minimize", "maximize"] = "minimize"
    trials: int = 20
    batch: int = 1
    sampler: Literal["tpe", "random"] = "tpe"
    sampler_seed: int = 0

    def problems(self) -> list[str]:
        """What is wrong with them, each in a line."""
        found = []
        if not self.metric.startswith("valid/"):
            found.append(
                f"hydra.sweeper.metric={self.metric}: must begin with valid/; what is chosen on test data "
                "cannot be tested on it"
            )
        found += [
            f"hydra.sweeper.{name}={getattr(self, name)}: must be one of {', '.join(allowed)}"
            for name, allowed in (("direction", ("minimize", "maximize")), ("sampler", ("tpe", "random")))
            if getattr(self, name) not in allowed
        ]
        found += [
            f"hydra.sweeper.{name}={getattr(self, name)}: must be 1 or more"
            for name in ("trials", "batch")
            if getattr(self, name) < 1
        ]
        return found


@dataclass(frozen=True)
class SearchSpace:
    """What stays as typed, and what is searched."""

    fixed: tuple[str, ...]
    distributions: dict[str, BaseDistribution]

    @classmethod
    def read(cls, overrides: Sequence[str]) -> SearchSpace:
        """Sort overrides: `A,B`, `choice(A,B)` and `range(3)` are searched as alternatives, `interval(1,8)` as a range
        of numbers, on a log scale as `tag(log, interval(1e-4,1e-2))`, of whole numbers as `int(interval(1,8))`.

        Raises:
            ConfigError: nothing is searched, or what is no hyperparameter.
        """
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        fixed: list[str] = []
        found: dict[str, BaseDistribution] = {}
        problems = []
        for text in overrides:
            try:
                override = OverridesParser.create().parse_override(text)
            except HydraException:
                problems.append(f"{text}: the value cannot be read")
                continue
            name = override.get_key_element()
            value = override.value()
            if not override.is_sweep_override():
                fixed.append(text)
            elif name.lstrip("+") == "seed":
                problems.append(f"{text}: a search over seeds finds luck; give one seed")
            elif isinstance(value, IntervalSweep):
                if not (value.start is not None and value.end is not None and value.start < value.end):
                    problems.append(f"{text}: an interval begins below its end")
                elif "log" in value.tags and value.start <= 0:
                    problems.append(f"{text}: a log scale begins above 0")
                elif isinstance(value.start, int) and isinstance(value.end, int):
                    found[name] = IntDistribution(value.start, value.end, log="log" in value.tags)
                else:
                    found[name] = FloatDistribution(float(value.start), float(value.end), log="log" in value.tags)
            else:
                found[name] = CategoricalDistribution(list(override.sweep_string_iterator()))
        if not found and not problems:
            problems.append("sweeper=optuna: nothing is searched; give A,B or an interval(START,END) for some setting")
        if problems:
            raise ConfigError(problems)
        return cls(tuple(fixed), found)

    def corners(self) -> Iterator[list[str]]:
        """Overrides that use every alternative and both ends of every interval once, to check before the search."""
        ends = {name: _ends(distribution) for name, distribution in self.distributions.items()}
        for index in range(max(map(len, ends.values()))):
            yield self.overrides({name: values[min(index, len(values) - 1)] for name, values in ends.items()})

    def overrides(self, values: dict[str, Any]) -> list[str]:
        """The overrides of a trial."""
        return [*self.fixed, *(f"{name}={value}" for name, value in values.items())]


def _ends(distribution: Any) -> list[Any]:
    choices = getattr(distribution, "choices", None)
    return list(choices) if choices is not None else [distribution.low, distribution.high]


@dataclass(frozen=True)
class TrialOutcome:
    """A trial of a search."""

    number: int
    values: dict[str, Any]
    value: float | None
    """The metric; None where the run failed."""
    outcome: JobOutcome


@dataclass(frozen=True)
class SearchResult:
    """A search that is over."""

    settings: SearchSettings
    space: SearchSpace
    trials: tuple[TrialOutcome, ...]

    @property
    def best(self) -> TrialOutcome | None:
        """The trial with the best value, the first of equal ones."""
        scored = [trial for trial in self.trials if trial.value is not None]
        sign = 1.0 if self.settings.direction == "minimize" else -1.0
        return min(scored, key=lambda trial: sign * (trial.value or 0.0), default=None)

    def text(self) -> str:
        """What is said at the end: the best trials and what to type to repeat the best."""
        sign = 1.0 if self.settings.direction == "minimize" else -1.0
        scored = sorted((t for t in self.trials if t.value is not None), key=lambda t: sign * (t.value or 0.0))
        lines = [f"search: {len(scored)} of {len(self.trials)} trials have {self.settings.metric}"]
        for trial in scored[:5]:
            values = " ".join(f"{name.lstrip('+')}={_short(value)}" for name, value in trial.values.items())
            lines.append(f"  {trial.value:.6g}  trial {trial.number}  {values}")
        if scored:
            lines.append(f"best: {scored[0].outcome.job.folder}")
        return "\n".join(lines)

    def write(self) -> Path | None:
        """Leave the trials in runs/<experiment>/search-<hash8>.json; None where no trial has a folder."""
        if not self.trials:
            return None
        kept = {name: value for name, value in asdict(self.settings).items() if name != "trials"}
        space = {name: str(distribution) for name, distribution in self.space.distributions.items()}
        name = hashlib.sha256(json.dumps([kept, self.space.fixed, space]).encode()).hexdigest()[:8]
        file = self.trials[0].outcome.job.folder.parents[1] / f"search-{name}.json"
        trials = [
            {
                "number": trial.number,
                "values": {name.lstrip("+"): value for name, value in trial.values.items()},
                "value": trial.value,
                "state": trial.outcome.state,
                "run": str(trial.outcome.job.folder),
            }
            for trial in self.trials
        ]
        best = self.best
        content = {**kept, "space": space, "best": None if best is None else best.number, "trials": trials}
        write_json(file, content)
        return file


def search(space: SearchSpace, settings: SearchSettings, run: RunTrials) -> SearchResult:
    """Propose, train, tell, until all trials are done.

    A trial that diverged counts as worse than all others; one that failed otherwise counts as none.

    Raises:
        ConfigError: the runs have no such metric.
        InterruptedRun: the sweep was asked to stop; the same search goes on.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    samplers = {"tpe": optuna.samplers.TPESampler, "random": optuna.samplers.RandomSampler}
    study = optuna.create_study(
        direction=settings.direction, sampler=samplers[settings.sampler](seed=settings.sampler_seed)
    )
    done: list[TrialOutcome] = []
    while len(done) < settings.trials:
        batch = min(settings.batch, settings.trials - len(done))
        asked = [study.ask(space.distributions) for _ in range(batch)]
        outcomes = run([space.overrides(trial.params) for trial in asked])
        if any(outcome.state == "interrupted" for outcome in outcomes):
            raise InterruptedRun("the search was interrupted; the same command goes on")
        done += [_tell(study, trial, outcome, settings) for trial, outcome in zip(asked, outcomes, strict=True)]
    return SearchResult(settings, space, tuple(done))


def _tell(study: Study, trial: Trial, outcome: JobOutcome, settings: SearchSettings) -> TrialOutcome:
    from optuna.trial import TrialState

    result = read_result(outcome.job.folder) if outcome.state != "failed" else None
    if result is None:
        study.tell(trial, state=TrialState.PRUNED if outcome.diverged else TrialState.FAIL)
        return TrialOutcome(trial.number, trial.params, None, outcome)
    if settings.metric not in result.metrics:
        there = ", ".join(name for name in result.metrics if name.startswith("valid/"))
        raise ConfigError([f"hydra.sweeper.metric={settings.metric}: these runs have {there}"])
    value = result.metrics[settings.metric]
    study.tell(trial, value)
    return TrialOutcome(trial.number, trial.params, value, outcome)


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
