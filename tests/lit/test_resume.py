"""A run that was interrupted equals one that was not, bit for bit."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from rla_exp.config import Composed
from rla_exp.data import Batch, Data, EvalSplit
from rla_exp.errors import InterruptedRun
from rla_exp.lit import fit as fit_file
from rla_exp.lit import train_run
from rla_exp.models import LanguageModel
from rla_exp.runs import Result, RunFolder


class Interrupting:
    """Data that sends this process a signal while it hands out one batch."""

    def __init__(self, data: Data, *, train: int | None = None, valid: int | None = None) -> None:
        self._data = data
        self._train, self._valid = train, valid
        self._num_valid = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._data, name)

    def train_batch(self, index: int) -> Batch:
        if index == self._train:
            os.kill(os.getpid(), signal.SIGTERM)
        return self._data.train_batch(index)

    def eval_batch(self, split: EvalSplit, index: int) -> Batch:
        if split == "valid":
            if self._num_valid == self._valid:
                os.kill(os.getpid(), signal.SIGTERM)
            self._num_valid += 1
        return self._data.eval_batch(split, index)


def interrupt(monkeypatch: pytest.MonkeyPatch, **where: int) -> None:
    build = fit_file.build_data
    monkeypatch.setattr(fit_file, "build_data", lambda *args, **kwargs: Interrupting(build(*args, **kwargs), **where))


@pytest.fixture(autouse=True)
def _dropout(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let training draw random numbers, which the models themselves do not: their generators must go on too."""
    build = fit_file.build_model

    def build_with_dropout(*args: Any) -> LanguageModel:
        model = build(*args)
        model.embedding.register_forward_hook(lambda module, _, output: F.dropout(output, 0.1, module.training))
        return model

    monkeypatch.setattr(fit_file, "build_model", build_with_dropout)


def run_folder(root: Path) -> RunFolder:
    (path,) = root.glob("runs/default/*/seed*")
    return RunFolder(path)


def outcome(root: Path, composed: Composed) -> tuple[dict[str, Tensor], Result, list[dict[str, Any]]]:
    """Final parameters, result and lines (less the throughput, which does not repeat)."""
    result = train_run(composed)
    folder = run_folder(root)
    parameters = torch.load(folder.checkpoints / "last.ckpt", weights_only=True)["state_dict"]
    lines = [{key: value for key, value in line.items() if key != "tokens_per_s"} for line in folder.read_metrics()]
    return parameters, result, lines


@pytest.mark.parametrize(
    ("settings", "where", "stopped_after"),
    [
        pytest.param({}, {"train": 3}, 4, id="between lines"),
        pytest.param({"validate_every": 3}, {"train": 3}, 4, id="between validations"),
        pytest.param({"validate_every": 3}, {"train": 5}, 6, id="at a validation"),
        # two batches a validation: the signal comes in the second one of the second validation
        pytest.param({"validate_every": 3}, {"valid": 3}, 6, id="in a validation"),
        pytest.param({"validate_every": 3}, {"train": 7}, 8, id="at the end"),
        pytest.param({"validate_every": 3, "accumulate": 2}, {"train": 8}, 5, id="between accumulated batches"),
        pytest.param({"accumulate": 2, "diagnostics_every": 3}, {"train": 9}, 5, id="after accumulated batches"),
    ],
)
def test_interrupted_equals_uninterrupted(
    make_run: Callable[..., Composed],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    settings: dict[str, int],
    where: dict[str, int],
    stopped_after: int,
) -> None:
    composed = make_run(**settings)
    with monkeypatch.context() as patch:
        interrupt(patch, **where)
        with pytest.raises(InterruptedRun, match=rf"stopped by SIGTERM after step {stopped_after};"):
            train_run(composed)
    folder = run_folder(tmp_path)
    status = folder.read_status()
    assert status is not None
    assert (status.state, status.step, status.max_steps) == ("interrupted", stopped_after, 8)
    assert folder.read_result() is None
    resumed = outcome(tmp_path, composed)
    folder.path.rename(tmp_path / "resumed")

    whole = outcome(tmp_path, composed)
    assert resumed[0].keys() == whole[0].keys()
    for name, tensor in whole[0].items():
        assert torch.equal(resumed[0][name], tensor), name
    assert resumed[1].metrics == whole[1].metrics
    assert resumed[2] == whole[2]


def test_every_validation_is_recorded_once(
    make_run: Callable[..., Composed], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    composed = make_run(validate_every=3, log_every=100, checkpoint_every=1)
    with monkeypatch.context() as patch:
        interrupt(patch, valid=2)
        with pytest.raises(InterruptedRun):
            train_run(composed)
    train_run(composed)
    lines = run_folder(tmp_path).read_metrics()
    assert [line["step"] for line in lines if "valid/loss" in line] == [3, 6, 8]
    assert [line["step"] for line in lines] == [3, 6, 8]


def test_crash_goes_on_from_the_last_checkpoint(
    make_run: Callable[..., Composed], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    composed = make_run(log_every=1, checkpoint_every=3, retry_failed=True)

    class Crashing(Interrupting):
        def train_batch(self, index: int) -> Batch:
            if index == 5:
                raise OSError("the disk is gone")
            return super().train_batch(index)

    build = fit_file.build_data
    with monkeypatch.context() as patch:
        patch.setattr(fit_file, "build_data", lambda *args, **kwargs: Crashing(build(*args, **kwargs)))
        with pytest.raises(OSError, match="the disk is gone"):
            train_run(composed)
    folder = run_folder(tmp_path)
    status = folder.read_status()
    assert status is not None
    assert (status.state, status.error) == ("failed", "OSError: the disk is gone")
    assert [line["step"] for line in folder.read_metrics()] == [1, 2, 3, 4, 5]
    # of a process killed while it wrote
    (folder.checkpoints / ".last.ckpt.4711").write_bytes(b"half of a checkpoint")
    resumed = outcome(tmp_path, composed)
    status = folder.read_status()
    assert status is not None
    assert (status.state, status.first_step, status.step) == ("done", 3, 8)
    log = (folder.path / "log.txt").read_text()
    assert "starting from step 3 of 8" in log
    assert 'raise OSError("the disk is gone")' in log
    assert [path.name for path in folder.checkpoints.iterdir()] == ["last.ckpt"]
    folder.path.rename(tmp_path / "resumed")
    whole = outcome(tmp_path, composed)
    assert resumed[1].metrics == whole[1].metrics
    assert resumed[2] == whole[2]
    assert [line["step"] for line in whole[2]] == list(range(1, 9))
