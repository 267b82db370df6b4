"""`rla-bench`: its settings and its files."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from rla_exp.cli import bench as command
from rla_exp.cli.bench import divide_settings, main


def test_wrong_settings_are_answered_together(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["shapse=1x64", "ops=rdn,rdn", "dtype=float64", "seconds=0", "shapes=64"]) == 1
    shown = capsys.readouterr().err
    assert "shapse=1x64: there is no setting shapse" in shown
    assert "did you mean shapes?" in shown
    assert "ops is 'rdn,rdn'; allowed: some of linear_attention" in shown
    assert "dtype is 'float64'; allowed: one of bfloat16, float16, float32" in shown
    assert "seconds is '0'; allowed: a number above 0" in shown
    assert "shapes is '64'" in shown


@pytest.mark.skipif(torch.cuda.is_available() or find_spec("flash_qla") is not None, reason="it would measure")
def test_what_is_not_here_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 1
    assert "device=cuda: no CUDA GPU here" in capsys.readouterr().err
    assert main(["device=cpu", "backend=triton"]) == 1
    assert "backend=triton: the fused kernels need device=cuda" in capsys.readouterr().err
    assert main(["device=cpu", "by=ours,flash_qla"]) == 1
    assert "by=ours,flash_qla: not installed here: flash_qla" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "kernels", "models"),
    [
        ([], ["models=false"], ["models=true"]),
        (["out=there", "limit=9"], ["models=false", "out=there", "limit=9"], ["models=true", "out=there", "limit=9"]),
        # settings of one alone measure that one
        (["quick=true", "limit=9"], ["quick=true", "limit=9"], None),
        (["names=rla", "limit=9"], None, ["models=true", "names=rla", "limit=9"]),
        (["models=true", "limit=9"], None, ["models=true", "limit=9"]),
        (["models=false", "limit=9"], ["models=false", "limit=9"], None),
        # settings of each go to that one
        (["quick=true", "names=rla", "limit=9"], ["quick=true", "limit=9"], ["models=true", "names=rla", "limit=9"]),
    ],
)
def test_settings_go_to_what_they_belong_to(
    given: list[str], kernels: list[str] | None, models: list[str] | None
) -> None:
    assert divide_settings(given) == (kernels, models)


def test_both_are_measured_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[tuple[str, list[str], float | None]] = []
    monkeypatch.setattr(command, "bench", lambda s, words: measured.append(("kernels", words, s.limit)))
    monkeypatch.setattr(command, "bench_models", lambda s, words: measured.append(("models", words, s.limit)))
    assert main(["limit=9"]) == 0
    assert measured == [
        ("kernels", ["models=false", "limit=9"], 9.0),
        ("models", ["models=true", "limit=9"], 9.0),
    ]
    # a wrong setting of the models is told before the kernels are measured
    measured.clear()
    assert main(["quick=true", "names=rlaa"]) == 1
    assert measured == []


def test_a_setting_of_neither_is_answered_with_those_of_both(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["outt=there"]) == 1
    shown = capsys.readouterr().err
    assert "outt=there: there is no setting outt" in shown
    assert "did you mean out?" in shown
    assert "quick" in shown
    assert "batch_tokens" in shown


def test_both_on_the_cpu(tmp_path: Path) -> None:
    kernels = ["ops=rdn", "by=ours", "passes=fwd", "shapes=1x64", "heads=1", "head_dim=16", "seconds=0.001"]
    models = ["names=rdn", "sizes=tiny", "lengths=32", "batch_tokens=32", "steps=2"]
    assert main([*kernels, *models, "device=cpu", f"out={tmp_path}"]) == 0
    (of_kernels,) = tmp_path.glob("*.json")
    (of_models,) = tmp_path.glob("models/*.json")
    assert json.loads(of_kernels.read_text())["command"] == f"rla-bench {' '.join(kernels)} device=cpu"
    content = json.loads(of_models.read_text())
    assert content["command"] == f"rla-bench models=true {' '.join(models)} device=cpu"
    assert [(row["model"], row["T"]) for row in content["rows"]] == [("rdn", 32)]


def test_a_small_benchmark_on_the_cpu(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = [
        "device=cpu",
        "ops=rdn",
        "by=ours",
        "passes=fwd,step",
        "shapes=1x64,2x32",
        "heads=1",
        "head_dim=16",
        "seconds=0.001",
    ]
    assert main([*small, f"out={tmp_path}", "commit=abc"]) == 0
    (file,) = tmp_path.glob("*.json")
    content = json.loads(file.read_text())
    assert content["command"] == f"rla-bench {' '.join(small)}"
    assert content["commit"] == "abc"
    assert content["backend"] == "chunked"
    shapes = [(row["pass"], row["B"], row["T"], row["K"], row["dtype"]) for row in content["rows"]]
    steps = [("step", B, 1, 16, "float32") for B in (1, 16, 64)]
    assert shapes == [("fwd", 1, 64, 16, "float32"), ("fwd", 2, 32, 16, "float32"), *steps]
    shown = capsys.readouterr()
    assert "rdn fwd B2 T32, ours: " in shown.err
    assert str(file) in shown.out


def test_nothing_measured_is_a_failure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["device=cpu", "ops=rdn", "passes=fwd", "limit=1e-9", f"out={tmp_path}"]) == 1
    assert "nothing was measured" in capsys.readouterr().err
