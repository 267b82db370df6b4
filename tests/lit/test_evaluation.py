"""A suite while a run trains: the numbers are those of its checkpoint, and training does not notice."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rla_exp.config import Composed
from rla_exp.config.schema import EvaluationConfig, TextConfig
from rla_exp.errors import DataError, InterruptedRun
from rla_exp.eval import evaluate as evaluate_file
from rla_exp.eval.evaluate import EvaluationSettings, evaluate_run
from rla_exp.eval.restore import load_run
from rla_exp.eval.suite import load_suite
from rla_exp.lit import train_run
from rla_exp.lit.place import find_place
from rla_exp.runs import RunFolder

MakeRun = Callable[..., Composed]


def with_evaluation(composed: Composed, **settings: Any) -> Composed:
    config = replace(composed.config, evaluation=EvaluationConfig(**settings))
    return Composed(config, asdict(config), [])


def with_text(composed: Composed, folder: Path) -> Composed:
    for number in range(40):
        (folder / f"{number}.txt").write_text(f"Document {number} is about the garden. " * 8, encoding="utf-8")
    data = TextConfig(
        kind="text",
        name="files",
        source="files",
        paths=[f"{folder}/*.txt"],
        batch_size=4,
        eval_batch_size=8,
        seq_len=32,
    )
    config = replace(composed.config, data=data)
    return Composed(config, asdict(config), [])


def evaluated(lines: list[dict[str, Any]]) -> dict[int, dict[str, float]]:
    """Step -> what the suite came to there."""
    found = {line["step"]: {key: value for key, value in line.items() if key.startswith("eval/")} for line in lines}
    return {step: scores for step, scores in found.items() if scores}


def trained(composed: Composed) -> tuple[dict[str, Any], list[dict[str, Any]], dict[str, float]]:
    """The last checkpoint, the lines less throughput, and the result's metrics."""
    result = train_run(composed)
    folder = find_place(composed).folder
    checkpoint = torch.load(folder.checkpoints / "last.ckpt", weights_only=True)
    lines = [{key: value for key, value in line.items() if key != "tokens_per_s"} for line in folder.read_metrics()]
    return checkpoint, lines, result.metrics


def disturb(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let every task draw random numbers; the list grows with each task that is run."""
    original = evaluate_file.run_mqar
    calls: list[int] = []

    def drawing(*arguments: Any) -> Any:
        calls.append(len(calls))
        random.random()
        np.random.rand()
        torch.rand(3)
        return original(*arguments)

    monkeypatch.setattr(evaluate_file, "run_mqar", drawing)
    return calls


def test_training_is_the_same_bit_for_bit(make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = disturb(monkeypatch)
    plain = make_run(validate_every=4)
    watched = with_evaluation(plain, suite="mqar", every=3)
    assert find_place(watched).folder == find_place(plain).folder
    with_it = trained(watched)
    assert calls == [0, 1, 2]
    find_place(plain).folder.path.rename(tmp_path / "with_it")
    without = trained(plain)
    assert with_it[0]["state_dict"].keys() == without[0]["state_dict"].keys()
    for name, tensor in without[0]["state_dict"].items():
        assert torch.equal(with_it[0]["state_dict"][name], tensor), name
    states = [found[0]["callbacks"]["RandomState"] for found in (with_it, without)]
    assert torch.equal(states[0]["torch"], states[1]["torch"])
    assert torch.equal(states[0]["numpy"][1], states[1]["numpy"][1])
    assert states[0]["numpy"][2] == states[1]["numpy"][2]
    assert states[0]["python"] == states[1]["python"]
    assert with_it[2] == without[2]
    assert list(evaluated(with_it[1])) == [3, 6, 8]
    left = [{key: value for key, value in line.items() if not key.startswith("eval/")} for line in with_it[1]]
    assert [line for line in left if len(line) > 1] == without[1]


def test_the_numbers_are_those_of_the_checkpoint(make_run: MakeRun, tmp_path: Path) -> None:
    composed = with_evaluation(with_text(make_run(max_steps=4), tmp_path), suite="smoke", limit=4)
    _, lines, _ = trained(composed)
    scores = evaluated(lines)
    assert list(scores) == [4]
    run = load_run(find_place(composed).folder.path)
    stored = evaluate_run(run, "smoke", load_suite("smoke"), EvaluationSettings(limit=4))
    assert scores[4] == {
        f"eval/smoke/{task}/{metric}": score.value
        for task, found in stored.tasks.items()
        for metric, score in found.metrics.items()
    }
    assert {"eval/smoke/smoke_choice/acc", "eval/smoke/smoke_document/bits_per_byte"} <= scores[4].keys()


def test_accumulated_batches_are_one_step(make_run: MakeRun) -> None:
    composed = with_evaluation(make_run(accumulate=2), suite="mqar", every=4, limit=4)
    assert list(evaluated(trained(composed)[1])) == [4, 8]


def test_a_resumed_run_has_every_evaluation_once(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    composed = with_evaluation(make_run(log_every=100), suite="mqar", every=3)
    original = evaluate_file.run_mqar
    calls: list[int] = []

    def interrupting(*arguments: Any) -> Any:
        calls.append(len(calls))
        if len(calls) == 2:
            # in the evaluation of step 6, which is finished before the run stops
            os.kill(os.getpid(), signal.SIGTERM)
        return original(*arguments)

    monkeypatch.setattr(evaluate_file, "run_mqar", interrupting)
    with pytest.raises(InterruptedRun, match="after step 6;"):
        train_run(composed)
    folder: RunFolder = find_place(composed).folder
    assert list(evaluated(folder.read_metrics())) == [3, 6]
    resumed = trained(composed)
    assert len(calls) == 3
    folder.path.rename(tmp_path / "resumed")
    whole = trained(composed)
    assert list(evaluated(resumed[1])) == [3, 6, 8]
    assert resumed[1:] == whole[1:]


def test_missing_files_are_told_before_the_first_step(make_run: MakeRun, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    settings = {"suite": "recall", "data_dir": str(empty)}
    composed = with_evaluation(with_text(make_run(log_every=1), tmp_path), **settings)
    with pytest.raises(DataError, match=r"lacks files(.|\n)*swde(.|\n)*squad_completion"):
        train_run(composed)
    assert find_place(composed).folder.read_metrics() == []
