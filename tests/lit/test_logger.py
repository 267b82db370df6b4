"""Weights & Biases: offline without credentials, one W&B run for a run however often it is resumed."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rla_exp.config import Composed
from rla_exp.config.schema import LoggerConfig
from rla_exp.errors import InterruptedRun
from rla_exp.lit import train_run
from rla_exp.lit.logger import describe_run, summary_of, wandb_mirror
from rla_exp.lit.stopping import StopRequest
from rla_exp.runs import RunFolder
from rla_exp.runs.wandb_mirror import has_credentials, waiting_folders


@pytest.fixture(autouse=True)
def no_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))


@pytest.fixture
def read_offline_run(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], Any]:
    """The reader of wandb_file.py beside this file."""
    monkeypatch.syspath_prepend(Path(__file__).parent)
    reader: Callable[[Path], Any] = importlib.import_module("wandb_file").read_offline_run
    return reader


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
    with wandb_mirror(composed.config, RunFolder(tmp_path), composed.resolved) as mirror:
        assert mirror is None
    assert list(tmp_path.iterdir()) == []


def test_an_offline_run_holds_everything(
    make_run: Callable[..., Composed], tmp_path: Path, read_offline_run: Callable[[Path], Any]
) -> None:
    composed = make_run(logger=LoggerConfig(kind="wandb", tags=["mine"]), diagnostics_every=4, validate_every=4)
    result = train_run(composed)
    (path,) = tmp_path.glob("runs/default/*/seed0")
    (folder,) = waiting_folders(path)
    found = read_offline_run(folder)
    assert {key: value for key, value in found.config.items() if key != "_wandb"} == composed.resolved
    assert found.run.run_group == f"default/{path.parent.name}"
    assert list(found.run.tags) == ["default", "rdn", "full", "mqar", "mine"]
    lines = RunFolder(path).read_metrics()
    logged = [{key: value for key, value in row.items() if not key.startswith("_")} for row in found.history]
    assert logged == lines
    assert [row["_step"] for row in found.history] == [2, 4, 6, 8]
    assert "diag/layer1/gamma_mean" in logged[1]
    assert found.metrics["valid/accuracy"].step_metric == "step"
    best = max(row["valid/accuracy"] for row in lines if "valid/accuracy" in row)
    assert found.summary["valid/accuracy"] == {"max": best, "last": result.metrics["valid/accuracy"]}
    assert found.summary["train/loss"]["min"] == min(row["train/loss"] for row in lines)
    for key in ("test/loss", "test/accuracy", "parameters", "state_bytes"):
        assert found.summary[key] == result.metrics[key]
    assert found.exit_code == 0


def test_resumed_run_goes_on_in_the_same_wandb_run(
    make_run: Callable[..., Composed],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    read_offline_run: Callable[[Path], Any],
) -> None:
    composed = make_run(logger=LoggerConfig(kind="wandb"))
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
    (first,) = waiting_folders(path)
    assert first.name.endswith(f"-{run_id}")
    assert read_offline_run(first).exit_code == 1
    # folders are named by the second
    time.sleep(1.1)
    composed = make_run(logger=LoggerConfig(kind="wandb"))
    train_run(composed)
    (second,) = waiting_folders(path)
    assert (second.name != first.name, second.name.endswith(f"-{run_id}")) == (True, True)
    found = read_offline_run(second)
    assert [row["step"] for row in found.history] == [row["step"] for row in RunFolder(path).read_metrics()]
    assert (found.exit_code, found.config["seed"]) == (0, 0)


def test_what_was_sent_does_not_wait(tmp_path: Path) -> None:
    for name in ("offline-run-1-a", "offline-run-2-a"):
        (tmp_path / "wandb" / name).mkdir(parents=True)
    (tmp_path / "wandb/offline-run-1-a/run-a.wandb.synced").write_text("")
    assert [folder.name for folder in waiting_folders(tmp_path)] == ["offline-run-2-a"]


def test_parallel_offline_runs_keep_everything(tmp_path: Path, read_offline_run: Callable[[Path], Any]) -> None:
    """wandb issue 7227: offline runs side by side lost config and summary."""
    script = str(Path(__file__).with_name("wandb_script.py"))
    processes = [subprocess.Popen([sys.executable, script, str(tmp_path), str(seed)]) for seed in range(3)]
    assert [process.wait(timeout=120) for process in processes] == [0] * 3
    ids = set()
    for seed in range(3):
        (folder,) = waiting_folders(tmp_path / f"rdn-full-mqar-00000000/seed{seed}")
        found = read_offline_run(folder)
        assert (found.config["seed"], found.config["model"]["name"]) == (seed, "rdn")
        assert [row["train/loss"] for row in found.history] == [1, 1 / 2, 1 / 3]
        assert (found.summary["train/loss"], found.summary["test/loss"]) == ({"min": 1 / 3, "last": 1 / 3}, 0.25 + seed)
        assert found.exit_code == 0
        ids.add(found.run.run_id)
    assert len(ids) == 3


@pytest.mark.parametrize(
    ("metric", "kept"),
    [
        ("valid/accuracy@16", "max,last"),
        ("train/loss", "min,last"),
        ("valid/perplexity", "min,last"),
        ("valid/bits_per_byte", "min,last"),
        ("diag/layer0/gamma_mean", "last"),
    ],
)
def test_what_the_summary_keeps(metric: str, kept: str) -> None:
    assert summary_of(metric) == kept


def test_what_wandb_is_told(make_run: Callable[..., Composed], tmp_path: Path) -> None:
    composed = make_run(seed=2, logger=LoggerConfig(kind="wandb", project="p", entity="team", tags=["mine"]))
    folder = RunFolder(tmp_path / "rdn-full-mqar-01234567/seed2")
    folder.create()
    told = describe_run(composed.config, folder, composed.resolved, offline=True)
    assert (told["name"], told["group"]) == ("rdn-full-mqar-seed2", "default/rdn-full-mqar-01234567")
    assert told["tags"] == ["default", "rdn", "full", "mqar", "mine"]
    assert (told["project"], told["entity"]) == ("p", "team")
    assert (told["mode"], told["resume"], told["dir"]) == ("offline", None, folder.path)
    assert told["config"] == composed.resolved
    online = describe_run(composed.config, folder, composed.resolved, offline=False)
    assert (online["id"], online["mode"], online["resume"]) == (told["id"], "online", "allow")
