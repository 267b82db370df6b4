"""Runs handed on to another machine: finished ones are whole there, and nothing there is lost."""

from __future__ import annotations

import io
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from rla_exp.cli.hand_over import main
from rla_exp.runs import RunFolder, Status

Run = Callable[..., tuple[int, str, str]]


def run_folders(runs: Path) -> list[Path]:
    return sorted(runs.glob("*/*/seed*"))


def interrupt(folder: Path, size: int) -> None:
    """Make a finished run an interrupted one with a checkpoint of so many bytes."""
    (folder / "result.json").unlink()
    (folder / "checkpoints" / "last.ckpt").write_bytes(bytes(size))
    RunFolder(folder).write_status(Status(state="interrupted", step=1, max_steps=2))


def test_the_next_machine_skips_what_the_last_one_finished(
    run: Run, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(sorted((tmp_path / "runs").glob("*/rdn-full-*/seed1"))[0])
    file = tmp_path / "runs.tar.xz"
    assert main([f"pack={file}", f"runs={tmp_path / 'runs'}"]) == 0
    assert "3 runs; 0 left" in capsys.readouterr().out
    with tarfile.open(file) as archive:
        kept = {Path(name).name for name in archive.getnames()}
    assert kept == {"config.yaml", "environment.json", "status.json", "metrics.jsonl", "log.txt", "result.json"}
    shutil.rmtree(tmp_path / "runs")
    assert main([f"unpack={file}", f"runs={tmp_path / 'runs'}"]) == 0
    code, out, _ = run()
    assert code == 0
    assert "4 runs: 1 trained, 3 finished before" in out
    for name in ("table.csv", "table.tex"):
        here, there = (root / "results" / "tiny" / "smoke" / name for root in (tmp_path, trained))
        # all but throughput repeats; the table has none
        assert here.read_bytes() == there.read_bytes()


def test_checkpoints_go_along_where_they_are_small(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second, third, fourth = run_folders(tmp_path / "runs")
    interrupt(first, 2**20)
    interrupt(second, 3 * 2**20)
    interrupt(third, 10)
    (third / "checkpoints" / "last.ckpt").unlink()
    (fourth / "result.json").unlink()
    RunFolder(fourth).write_status(Status(state="failed", step=1, max_steps=2, error="NonFiniteError: loss"))
    file = tmp_path / "runs.tar.xz"
    assert main([f"pack={file}", f"runs={tmp_path / 'runs'}", "checkpoint_mib=2"]) == 0
    out = capsys.readouterr().out
    assert "2 runs; 2 left" in out
    assert "its checkpoint has 3.0 MiB" in out
    assert "no checkpoint yet" in out
    assert main([f"unpack={file}", f"runs={tmp_path / 'there'}"]) == 0
    names = [folder.relative_to(tmp_path / "there") for folder in run_folders(tmp_path / "there")]
    assert names == [folder.relative_to(tmp_path / "runs") for folder in (first, fourth)]
    assert (tmp_path / "there" / names[0] / "checkpoints" / "last.ckpt").stat().st_size == 2**20
    assert not (tmp_path / "there" / names[1] / "checkpoints").exists()
    # a failure is known there, too
    status = RunFolder(tmp_path / "there" / names[1]).read_status()
    assert status is not None
    assert status.state == "failed"


def test_what_is_finished_or_trained_there_stays(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs, there = tmp_path / "runs", tmp_path / "there"
    shutil.copytree(runs, there)
    file = tmp_path / "runs.tar.xz"
    assert main([f"pack={file}", f"runs={runs}"]) == 0
    finished, held, behind, _ = run_folders(there)
    (finished / "result.json").write_text("{}")
    for folder in (held, behind):
        (folder / "result.json").unlink()
    capsys.readouterr()
    with RunFolder(held).lock():
        assert main([f"unpack={file}", f"runs={there}"]) == 0
    out = capsys.readouterr().out
    assert "1 runs; 3 left" in out
    assert "trained here at this moment" in out
    assert (finished / "result.json").read_text() == "{}"
    assert not (held / "result.json").exists()
    assert (behind / "result.json").read_bytes() == (runs / behind.relative_to(there) / "result.json").read_bytes()


def test_a_file_that_holds_anything_else_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "runs.tar.xz"
    for name in ("a/b/seed0/../../../outside", "/a/b/seed0/config.yaml", "config.yaml"):
        with tarfile.open(file, "w:xz") as archive:
            whole = tarfile.TarInfo("a/b/seed0/config.yaml")
            archive.addfile(whole, io.BytesIO(b""))
            archive.addfile(tarfile.TarInfo(name), io.BytesIO(b""))
        assert main([f"unpack={file}", f"runs={tmp_path / 'runs'}"]) == 1
        assert "which is no file of a run; nothing was unpacked" in capsys.readouterr().err
        assert not (tmp_path / "runs").exists()
    file.write_bytes(b"no archive")
    assert main([f"unpack={file}"]) == 1
    assert "cannot unpack" in capsys.readouterr().err


def test_settings_are_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 1
    assert "give either pack=FILE or unpack=FILE" in capsys.readouterr().err
    assert main([f"unpack={tmp_path / 'a'}", "checkpoint_mib=1"]) == 1
    assert "checkpoint_mib: has no effect" in capsys.readouterr().err
    assert main([f"pack={tmp_path / 'a'}", f"runs={tmp_path}"]) == 1
    assert "no runs are below" in capsys.readouterr().err
    assert not (tmp_path / "a").exists()
