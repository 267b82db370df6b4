"""Weights & Biases: offline without credentials, one W&B run for a run however often it is resumed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rla_exp.config import Composed
from rla_exp.config.schema import LoggerConfig
from rla_exp.errors import InterruptedRun
from rla_exp.lit import logger as logger_file
from rla_exp.lit import train_run
from rla_exp.lit.logger import has_credentials, make_wandb_logger
from rla_exp.lit.stopping import StopRequest
from rla_exp.runs import RunFolder


@pytest.fixture(autouse=True)
def no_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))


def test_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert not has_credentials()
    (tmp_path / "netrc").write_text("machine api.wandb.ai login user password key\n")
    assert has_credentials()
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org")
    assert not has_credentials()
    monkeypatch.setenv("WANDB_API_KEY", "key")
    assert has_credentials()
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert not has_credentials()


def test_files_only_unless_asked(make_run: Callable[..., Composed], tmp_path: Path) -> None:
    composed = make_run()
    assert make_wandb_logger(composed.config, RunFolder(tmp_path), composed.resolved) is None


def test_resumed_run_goes_on_in_the_same_wandb_run(
    make_run: Callable[..., Composed], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    composed = make_run(logger=LoggerConfig(kind="wandb", tags=["mine"]))
    with monkeypatch.context() as patch:
        stop_at_once = StopRequest.listen

        def listen(self: StopRequest) -> None:
            stop_at_once(self)
            self.received = "SIGTERM"

        patch.setattr(StopRequest, "listen", listen)
        with pytest.raises(InterruptedRun):
            train_run(composed)
    (path,) = tmp_path.glob("runs/default/*/seed0")
    run_id = json.loads((path / "wandb.json").read_text())["id"]
    train_run(composed)
    assert json.loads((path / "wandb.json").read_text())["id"] == run_id
    runs = sorted((path / "wandb").glob("offline-run-*"))
    assert len(runs) == 2
    assert all(run.name.endswith(f"-{run_id}") for run in runs)
    steps = [line["step"] for line in RunFolder(path).read_metrics()]
    assert steps == [2, 4, 6, 8]


def test_what_wandb_is_told(make_run: Callable[..., Composed], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    composed = make_run(seed=2, logger=LoggerConfig(kind="wandb", project="p", entity="team", tags=["mine"]))
    told: dict[str, Any] = {}
    monkeypatch.setattr(logger_file, "WandbLogger", lambda **settings: told.update(settings))
    folder = RunFolder(tmp_path)
    make_wandb_logger(composed.config, folder, composed.resolved)
    assert (told["name"], told["group"]) == ("rdn-full-mqar-seed2", "default")
    assert told["tags"] == ["default", "rdn", "full", "mqar", "mine"]
    assert (told["project"], told["entity"], told["offline"]) == ("p", "team", True)
    assert told["config"] == composed.resolved
    first = told["id"]
    monkeypatch.setenv("WANDB_API_KEY", "key")
    make_wandb_logger(composed.config, folder, composed.resolved)
    assert (told["id"], told["offline"], told["resume"]) == (first, False, "allow")
