"""Training steps of whole models: measured in processes, compared with their baselines, told when they fail."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from rla_exp.bench.markdown import NONE
from rla_exp.bench.model_files import models_markdown
from rla_exp.bench.model_worker import measure_step
from rla_exp.bench.models import ModelBenchSettings, ModelCase, cases_of, run_model_benchmark, visible_gpus
from rla_exp.cli.bench import main


def settings(**changes: Any) -> ModelBenchSettings:
    given: dict[str, Any] = {
        "models": ["rla", "linear_attention"],
        "sizes": ["tiny"],
        "lengths": [64, 32],
        "batch_tokens": 64,
        "steps": 2,
        "device": "cpu",
        "limit": None,
        "command": "rla-bench",
        "commit": "abc",
    }
    return ModelBenchSettings(**given | changes)


def test_a_case_has_as_many_tokens_as_it_can() -> None:
    cases = cases_of(settings(lengths=[128, 32, 16]), "rla", "tiny")
    assert [(case.B, case.T) for case in cases] == [(4, 16), (2, 32), (1, 128)]
    assert {case.precision for case in cases} == {"32"}
    large = cases_of(settings(device="cuda", batch_tokens=None, lengths=[2048, 32768]), "rdn", "1p5b")
    assert [(case.B, case.T, case.precision) for case in large] == [(4, 2048, "bf16-mixed"), (1, 32768, "bf16-mixed")]
    assert cases_of(settings(batch_tokens=None, lengths=[2048]), "rdn", "base")[0].B == 16


def test_a_step_is_a_training_step() -> None:
    case = {"model": "rdn", "size": "tiny", "B": 2, "T": 32, "precision": "32", "compile": False}
    measured = measure_step(case, 5, torch.device("cpu"))
    assert 0 < measured["ms_p20"] <= measured["ms"] <= measured["ms_p80"]
    assert measured["peak_mib"] is None
    # 3 x (2 a parameter that multiplies + the operator's own): more than 6 a parameter without the embedding
    multiplied = measured["parameters"] - 32768 * 64
    assert 6 * multiplied < measured["flop_per_token"] < 6.6 * multiplied


def test_blocks_and_loss_are_compiled_where_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[str] = []

    def compile_nothing(function: Any) -> Any:
        compiled.append(function.__name__)
        return function

    monkeypatch.setattr(torch, "compile", compile_nothing)
    case = {"model": "rdn", "size": "tiny", "B": 2, "T": 32, "precision": "32"}
    for asked in (False, True):
        measure_step({**case, "compile": asked}, 1, torch.device("cpu"))
    assert compiled == ["run_block", "mean_loss"]


def test_models_are_measured_in_processes_and_beside_their_baselines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["models=true", "names=linear_attention,rla", "sizes=tiny", "lengths=32,64", "batch_tokens=64", "steps=2"]
    assert main([*words, "device=cpu", f"out={tmp_path}", "commit=abc"]) == 0
    shown = capsys.readouterr()
    assert "rla tiny B1 T64: " in shown.err
    written = {path.suffix: path for path in (tmp_path / "models").iterdir()}
    assert set(written) == {".json", ".md", ".png", ".svg"}
    content = json.loads(written[".json"].read_text())
    assert (content["commit"], content["failures"], content["steps"]) == ("abc", [], 2)
    # where the files go is no part of what was measured
    assert content["command"].endswith("device=cpu")
    found = [(row["model"], row["B"], row["T"]) for row in content["rows"]]
    assert found == [("linear_attention", 2, 32), ("linear_attention", 1, 64), ("rla", 2, 32), ("rla", 1, 64)]
    for row in content["rows"]:
        assert row["tokens_per_s"] == pytest.approx(64 / (row["ms"] / 1000))
        assert row["mfu"] is None
    rates = {(row["model"], row["T"]): row["tokens_per_s"] for row in content["rows"]}
    share = f"{rates['rla', 32] / rates['linear_attention', 32]:.1%}"
    lines = written[".md"].read_text().split("### of its baseline's tokens/s")[1].splitlines()
    assert next(line for line in lines if "**RLA**" in line).split(" | ")[2].removesuffix(" *") == share
    assert next(line for line in lines if "**linear attention**" in line).split(" | ")[2] == NONE


def test_use_of_the_card_is_told_where_its_rate_is_known() -> None:
    row = {"model": "rdn", "size": "base", "B": 16, "T": 2048, "precision": "bf16-mixed", "compile": True}
    row |= {"ms": 100.0, "ms_p20": 99.0}
    row |= {"ms_p80": 101.0, "peak_mib": 20480.0, "parameters": 1.1e8, "tokens_per_s": 327680.0, "tflop_per_s": 250.0}
    content = {
        "gpu": "NVIDIA H100 80GB HBM3",
        "versions": {},
        "commit": "abc",
        "command": "rla-bench",
        "date": "2026-01-01",
    }
    content |= {
        "steps": 10,
        "gpus": 3,
        "peak_tflop_per_s": 989.4,
        "rows": [{**row, "mfu": 250.0 / 989.4}],
        "failures": [],
    }
    text = models_markdown(content)
    assert "| **RDN** | 110.0M | 25.3% |" in text
    assert "3 models at a time, side by side" in text
    assert "| **RDN** | 110.0M | 20,480 |" in text
    assert "| **RDN** | 110.0M | 100 (99\N{EN DASH}101) |" in text
    assert "## size=base, bf16-mixed, blocks and loss compiled" in text


def test_shares_of_unsteady_steps_are_marked() -> None:
    def row(model: str, T: int, p80: float) -> dict[str, Any]:
        shape = {"model": model, "size": "base", "B": 1, "T": T, "precision": "32", "compile": False}
        times = {"ms": 100.0, "ms_p20": 100.0, "ms_p80": p80, "tokens_per_s": 10.0 * T}
        return {**shape, **times, "peak_mib": None, "parameters": 1e6, "tflop_per_s": 1.0, "mfu": None}

    content = {"gpu": "cpu", "versions": {}, "commit": "abc", "command": "rla-bench", "date": "2026-01-01", "steps": 3}
    content |= {"peak_tflop_per_s": None, "failures": []}
    steady = [row("rla", 1024, 105.0), row("linear_attention", 1024, 101.0), row("rla", 2048, 100.0)]
    text = models_markdown({**content, "rows": [*steady, row("linear_attention", 2048, 105.1)]})
    assert "| **RLA** | 1.0M | 100.0% | 100.0% * |" in text
    assert "varied by more than 5%" in text
    assert "varied by" not in models_markdown({**content, "rows": steady})


def test_what_fails_is_recorded_and_does_not_stop_the_others() -> None:
    told: list[dict[str, Any]] = []
    # no machine holds so long a sequence
    content = run_model_benchmark(
        settings(models=["rla", "transformer"], lengths=[32, 10**12]), lambda _, row: told.append(row)
    )
    assert [(row["model"], row["T"]) for row in content["rows"]] == [("rla", 32), ("transformer", 32)]
    assert [(row["model"], row["T"]) for row in content["failures"]] == [("rla", 10**12), ("transformer", 10**12)]
    assert len(told) == 4
    assert all(row["reason"] for row in content["failures"])
    late = run_model_benchmark(settings(limit=-1.0), lambda *_: None)
    assert {row["reason"] for row in late["failures"]} == {"not run: out of time"}
    assert not late["rows"]


def test_settings_are_checked(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models=true", "names=rlaa", "sizes=huge", "ops=rla"]) == 1
    shown = capsys.readouterr().err
    assert "names is 'rlaa'" in shown
    assert "sizes is 'huge'" in shown
    assert "there is no setting ops" in shown


def test_models_run_side_by_side_each_on_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    at_work, met = [], threading.Barrier(2, timeout=20)

    def work(cases: list[ModelCase], _: ModelBenchSettings, gpu: str) -> list[dict[str, Any]]:
        at_work.append((cases[0].model, gpu))
        if len(at_work) <= 2:
            met.wait()  # breaks where one waits for the other
        time.sleep(0.2 if cases[0].model == "rla" else 0)
        return [{"ms": 1.0, "flop_per_token": 1.0} for _ in cases]

    monkeypatch.setattr("rla_exp.bench.models._measure", work)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7,9")
    content = run_model_benchmark(
        settings(models=["rla", "linear_attention", "rdn"], lengths=[32], gpus=2), lambda *_: None
    )
    # as asked for, though rla was done last
    assert [row["model"] for row in content["rows"]] == ["rla", "linear_attention", "rdn"]
    assert {gpu for _, gpu in at_work[:2]} == {"5", "7"}
    # the third takes the GPU that is free first
    gpus = dict(at_work)
    assert gpus["rdn"] == gpus["linear_attention"] != gpus["rla"]
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert visible_gpus(2) == ["0", "1"]


def test_nothing_is_begun_after_an_interrupt(monkeypatch: pytest.MonkeyPatch) -> None:
    begun = []

    def work(cases: list[ModelCase], *_: Any) -> list[dict[str, Any]]:
        begun.append(cases[0].model)
        time.sleep(0.3)
        return [{"ms": 1.0, "flop_per_token": 1.0} for _ in cases]

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("rla_exp.bench.models._measure", work)
    with pytest.raises(KeyboardInterrupt):
        run_model_benchmark(settings(models=["rla", "rdn", "mamba2", "retnet"], lengths=[32]), stop)
    # the one that was being measured meanwhile ends
    assert len(begun) <= 2


def test_a_process_that_dies_leaves_a_reason_for_every_case(monkeypatch: pytest.MonkeyPatch) -> None:
    def end(*_: Any, **__: Any) -> Any:
        return subprocess.CompletedProcess([], -9, '{"ms": 2.0, "flop_per_token": 1.0}\n', "Killed\n")

    monkeypatch.setattr(subprocess, "run", end)
    content = run_model_benchmark(settings(models=["rla"], lengths=[32, 64, 128]), lambda *_: None)
    assert [row["T"] for row in content["rows"]] == [32]
    reasons = [row["reason"] for row in content["failures"]]
    assert reasons == ["its process ended with exit code -9: Killed", "its process had ended"]


def test_more_gpus_than_there_are_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models=true", "device=cpu", "gpus=2"]) == 1
    assert "gpus=2: device=cpu has none" in capsys.readouterr().err
