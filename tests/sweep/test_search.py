"""Hyperparameter search: what is proposed, what decides, and that a search repeats itself."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Sequence
from pathlib import Path

import pytest

from rla_exp.cli.train import main
from rla_exp.errors import ConfigError, InterruptedRun
from rla_exp.sweep import Job, JobOutcome
from rla_exp.sweep.search import SearchSettings, SearchSpace, search

pytest.importorskip("optuna")

SPACE = (
    "model=rla",
    "++optim.lr=tag(log, interval(1e-5, 1.0))",
    "model.conv_size=null,4",
    "model.num_layers=range(1,3)",
)


class Trainer:
    """Runs whose loss is the distance of log10(lr) from -2.5; lr above 0.5 diverges."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.trained: list[str] = []

    def __call__(self, batch: Sequence[Sequence[str]]) -> list[JobOutcome]:
        return [self._train(overrides) for overrides in batch]

    def _train(self, overrides: Sequence[str]) -> JobOutcome:
        lr = float(next(text for text in overrides if "optim.lr" in text).partition("=")[2])
        job = Job(overrides=tuple(overrides), folder=self.folder / "study" / f"run-{lr!r}" / "seed0", work=print)
        if lr > 0.5:
            return JobOutcome(job=job, state="failed", diverged=True)
        if not job.folder.exists():
            self.trained.append(" ".join(overrides))
            job.folder.mkdir(parents=True)
            metrics = {"valid/loss": abs(math.log10(lr) + 2.5), "test/loss": 0.0}
            (job.folder / "result.json").write_text(json.dumps({"metrics": metrics, "timing": {}, "provenance": {}}))
        return JobOutcome(job=job, state="done")


def test_what_is_searched() -> None:
    space = SearchSpace.read(SPACE)
    assert space.fixed == ("model=rla",)
    lr = space.distributions["++optim.lr"]
    assert (lr.low, lr.high, lr.log) == (1e-5, 1.0, True)
    assert space.distributions["model.conv_size"].choices == ("null", "4")
    assert space.distributions["model.num_layers"].choices == ("1", "2")
    whole = SearchSpace.read(["trainer.max_steps=int(interval(10, 20))"]).distributions["trainer.max_steps"]
    assert (type(whole).__name__, whole.low, whole.high) == ("IntDistribution", 10, 20)
    assert list(space.corners()) == [
        ["model=rla", "++optim.lr=1e-05", "model.conv_size=null", "model.num_layers=1"],
        ["model=rla", "++optim.lr=1.0", "model.conv_size=4", "model.num_layers=2"],
    ]


def test_the_best_is_found_by_validation_and_better_than_by_chance(tmp_path: Path) -> None:
    result = search(SearchSpace.read(SPACE), SearchSettings(trials=60), Trainer(tmp_path))
    losses = [math.inf if trial.value is None else trial.value for trial in result.trials]
    assert len(losses) == 60
    assert result.best.value == min(losses)
    assert result.best.value < 0.05
    # later proposals know what earlier ones found
    assert statistics.median(losses[20:]) < 0.7 * statistics.median(losses[:20])
    content = json.loads(result.write().read_text())
    assert content["trials"][content["best"]]["value"] == result.best.value
    assert content["trials"][content["best"]]["run"] == str(result.best.outcome.job.folder)
    assert str(result.best.outcome.job.folder) in result.text()


def test_a_search_repeats_and_goes_on(tmp_path: Path) -> None:
    trainer = Trainer(tmp_path)
    settings = {"batch": 2, "sampler_seed": 3}
    first = search(SearchSpace.read(SPACE), SearchSettings(trials=14, **settings), trainer)
    before = list(trainer.trained)
    longer = search(SearchSpace.read(SPACE), SearchSettings(trials=18, **settings), trainer)
    # nothing is trained twice, and the longer search begins with the shorter one
    assert trainer.trained[: len(before)] == before
    assert len(set(trainer.trained)) == len(trainer.trained)
    assert [trial.values for trial in longer.trials[:14]] == [trial.values for trial in first.trials]
    assert longer.write() == first.write()


def test_an_interrupted_search_stops() -> None:
    def interrupted(batch: Sequence[Sequence[str]]) -> list[JobOutcome]:
        return [JobOutcome(job=Job(overrides=(), folder=Path(), work=print), state="interrupted")]

    with pytest.raises(InterruptedRun, match="the same command goes on"):
        search(SearchSpace.read(SPACE), SearchSettings(trials=3), interrupted)


def test_a_metric_that_the_runs_lack(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"hydra\.sweeper\.metric=valid/acuracy: these runs have valid/loss"):
        search(SearchSpace.read(SPACE), SearchSettings(metric="valid/acuracy"), Trainer(tmp_path))


def test_what_is_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        SearchSpace.read(["seed=0,1", "optim.lr=interval(2,1)", "optim.eps=tag(log, interval(0, 1.0))"])
    assert [problem.partition(": ")[2] for problem in caught.value.problems] == [
        "a search over seeds finds luck; give one seed",
        "an interval begins below its end",
        "a log scale begins above 0",
    ]
    with pytest.raises(ConfigError, match="nothing is searched"):
        SearchSpace.read(["model=rla"])
    wrong = SearchSettings(metric="test/loss", direction="down", trials=0)
    assert [problem.partition(":")[0] for problem in wrong.problems()] == [
        "hydra.sweeper.metric=test/loss",
        "hydra.sweeper.direction=down",
        "hydra.sweeper.trials=0",
    ]


COMMAND = ["--multirun", "sweeper=optuna", "model=rla", "debug=fast", "trainer=cpu"]


def test_a_search_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = [*COMMAND, f"paths.runs={tmp_path}", "optim.lr=tag(log, interval(1e-4, 1e-2))"]
    assert main([*command, "hydra.sweeper.trials=2"]) == 0
    assert "search: 2 of 2 trials have valid/loss" in capsys.readouterr().out
    (file,) = tmp_path.glob("debug/search-*.json")
    content = json.loads(file.read_text())
    assert [trial["state"] for trial in content["trials"]] == ["done", "done"]
    assert all(Path(trial["run"], "result.json").exists() for trial in content["trials"])


def test_a_search_is_checked_before_it_starts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = [*COMMAND, f"paths.runs={tmp_path}", "optim.lr=interval(-1.0, 1.0)", "modle.clip=1,2"]
    assert main([*command, "hydra.sweeper.trails=2"]) == 1
    shown = capsys.readouterr().err
    for words in ("did you mean hydra.sweeper.trials?", "optim.lr=-1.0", "did you mean model.clip?"):
        assert words in shown
    assert main([*COMMAND, "optim.lr=interval(1e-3,1.0)", "hydra.sweeper.metric=test/loss"]) == 1
    assert "must begin with valid/" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
