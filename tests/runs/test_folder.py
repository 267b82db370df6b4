"""A run's folder: its place, its files, whose it is."""

from __future__ import annotations

import copy
import logging
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from rla_exp.config.schema import (
    LoggerConfig,
    ModelConfig,
    MqarConfig,
    MqarSegment,
    OptimConfig,
    PathsConfig,
    RunConfig,
    TrainerConfig,
)
from rla_exp.errors import RunError
from rla_exp.runs import Result, RunFolder, Status, cache_dir, check_same_config, read_result, run_name

SEGMENTS = [MqarSegment(length=16, num_pairs=2, num_examples=4)]
CONFIG = RunConfig(
    model=ModelConfig(
        name="rdn", mixer="linear", d_model=8, num_layers=1, mlp_dim=None, num_heads=1, head_dim_k=8, head_dim_v=8
    ),
    data=MqarConfig(
        kind="mqar",
        name="my data",
        vocab_size=32,
        batch_size=4,
        eval_batch_size=4,
        train=SEGMENTS,
        valid=SEGMENTS,
        test=SEGMENTS,
    ),
    optim=OptimConfig(lr=1e-8),
    trainer=TrainerConfig(max_steps=4),
    logger=LoggerConfig(),
    paths=PathsConfig(runs="some/runs"),
    seed=3,
    ablation="no_clip",
    experiment="study",
)


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path / "run")
    folder.create()
    return folder


def test_place() -> None:
    folder = RunFolder.of(CONFIG, "0123456789abcdef" * 4)
    assert folder.path == Path("some/runs/study/rdn-no_clip-my_data-01234567/seed3")
    assert run_name(CONFIG) == "rdn-no_clip-my_data"


def test_home_in_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    there = RunFolder.of(replace(CONFIG, paths=PathsConfig(runs="~/runs")), "0123456789abcdef" * 4)
    assert there.path == Path("/home/me/runs/study/rdn-no_clip-my_data-01234567/seed3")
    with pytest.raises(RunError, match=r"~no-such-user/runs: .*; write the whole path"):
        RunFolder.of(replace(CONFIG, paths=PathsConfig(runs="~no-such-user/runs")), "0" * 64)


def test_status(folder: RunFolder) -> None:
    assert folder.read_status() is None
    status = Status(state="running", step=3, max_steps=9, loss=1.25, tokens_per_s=10.0)
    folder.write_status(status)
    assert folder.read_status() == status
    assert status.pid > 0
    assert status.host
    file = folder.path / "status.json"
    file.write_text('{"state": "queued", "of_a_later_version": 1}')
    queued = folder.read_status()
    assert queued is not None
    assert queued.state == "queued"
    file.write_text('{"state": "sleeping"}')
    with pytest.raises(RunError, match=r"run/status\.json: state is 'sleeping', allowed are queued, .*; delete"):
        folder.read_status()
    file.write_text('{"state": "running", "step": "many"}')
    with pytest.raises(RunError, match=r"run/status\.json: step is 'many': .*; delete the file"):
        folder.read_status()


def test_result(folder: RunFolder) -> None:
    assert folder.read_result() is None
    result = Result({"test/loss": 0.1 + 0.2}, {"seconds": 3.0}, {"sources": "ab"})
    folder.write_result(result)
    assert read_result(folder.path) == result
    with pytest.raises(ValueError, match="test/loss is nan"):
        folder.write_result(Result({"test/loss": float("nan")}, {}, {}))
    assert folder.read_result() == result
    (folder.path / "result.json").write_text('{"metrics": {}}')
    with pytest.raises(RunError, match=r"lacks timing, provenance; delete it"):
        folder.read_result()


def test_metrics(folder: RunFolder) -> None:
    assert folder.read_metrics() == []
    for step in (2, 4, 6):
        folder.append_metrics(step, {"train/loss": step / 3, "diag/S": float("inf")})
    with (folder.path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 8, "tra')
    lines = [{"step": step, "train/loss": step / 3, "diag/S": None} for step in (2, 4, 6)]
    assert folder.read_metrics() == lines
    folder.drop_metrics_after(4)
    assert folder.read_metrics() == lines[:2]
    folder.append_metrics(6, {"train/loss": 2.0, "diag/S": float("nan")})
    assert folder.read_metrics() == lines
    (folder.path / "metrics.jsonl").write_text('oops\n{"step": 1}\n')
    with pytest.raises(RunError, match=r"metrics\.jsonl, line 1: .*; delete the line"):
        folder.read_metrics()
    for line in ('{"train/loss": 1.0}', "[4]"):
        (folder.path / "metrics.jsonl").write_text('{"step": 1}\n' + line + "\n")
        with pytest.raises(RunError, match=r"metrics\.jsonl, line 2: there is no step; delete the line"):
            folder.drop_metrics_after(4)


def test_environment_remembers_what_a_run_goes_on_from(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    from rla_exp.runs import environment

    def start(sources: str, *, resumes: bool) -> list[str]:
        monkeypatch.setattr(environment, "sources_hash", lambda: sources)
        return folder.write_environment(["model=rla"], "cpu", resumes=resumes)

    assert start("a", resumes=False) == ["a"]
    assert start("b", resumes=True) == ["a", "b"]
    assert start("b", resumes=True) == ["a", "b"]
    content = folder.read_environment()
    assert content is not None
    assert [part["sources"] for part in content["earlier"]] == ["a", "b"]
    assert content["overrides"] == ["model=rla"]
    assert content["versions"]["torch"]
    # started over: nothing of the earlier starts is in its numbers
    assert start("c", resumes=False) == ["c"]
    (folder.path / "environment.json").write_text('{"earlier": []}')
    with pytest.raises(RunError, match=r"run/environment\.json does not tell the sources .*; delete the run's folder"):
        start("d", resumes=True)


def test_same_config(folder: RunFolder) -> None:
    resolved = asdict(CONFIG)
    check_same_config(folder, resolved)
    folder.write_config(resolved)
    assert folder.read_config() == resolved
    elsewhere = asdict(replace(CONFIG, paths=PathsConfig(runs="other"), retry_failed=True))
    check_same_config(folder, elsewhere)

    other = copy.deepcopy(resolved)
    other["optim"]["lr"] = 2e-8
    other["model"]["clip"] = None
    del other["model"]["skip"]
    with pytest.raises(RunError) as caught:
        check_same_config(folder, other)
    assert str(caught.value).splitlines()[1:4] == [
        "  model.clip: 1.0 in the file, None now",
        "  model.skip: False in the file, absent now",
        "  optim.lr: 1e-08 in the file, 2e-08 now",
    ]
    (folder.path / "config.yaml").write_text("a: [")
    with pytest.raises(RunError, match=r"cannot read .*config\.yaml"):
        check_same_config(folder, resolved)


def test_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(
        RunError, match=r"cannot make .*: Not a directory; set paths\.runs \(of rla-table: runs\) to a folder"
    ):
        RunFolder(tmp_path / "file" / "run").create()


def test_log(folder: RunFolder) -> None:
    logger = logging.getLogger("rla_exp.some.room")
    with folder.log():
        logger.info("in")
    logger.info("out")
    with folder.log():
        try:
            raise KeyError("x")
        except KeyError:
            logger.exception("told")
    text = (folder.path / "log.txt").read_text()
    assert "INFO rla_exp.some.room: in" in text
    assert "out" not in text
    assert "Traceback" in text


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a disk that is always full")
def test_log_on_a_full_disk(folder: RunFolder, capfd: pytest.CaptureFixture[str]) -> None:
    (folder.path / "log.txt").symlink_to("/dev/full")

    def break_down() -> None:
        with folder.log():
            logging.getLogger("rla_exp.some.room").info("in")
            raise KeyError("the reason")

    with pytest.raises(KeyError, match="the reason"):
        break_down()
    assert capfd.readouterr().err == ""


def test_cache_dir(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/x/cache")
    assert cache_dir(PathsConfig(cache="here")) == Path("here")
    assert cache_dir(PathsConfig()) == Path("/x/cache/rla_exp")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/me")
    assert cache_dir(PathsConfig()) == Path("/home/me/.cache/rla_exp")


def test_import_needs_no_torch() -> None:
    code = "import sys, rla_exp.runs; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
