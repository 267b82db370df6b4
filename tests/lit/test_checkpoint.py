"""Checkpoint files: damaged, of another model, full of code."""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path

import pytest
import torch
from torch import nn

from rla_exp.errors import RunError
from rla_exp.lit.checkpoint import AtomicCheckpointIO, newest_checkpoint, remove_unfinished


def save(folder: Path, module: nn.Module, step: int) -> None:
    AtomicCheckpointIO().save_checkpoint({"state_dict": module.state_dict(), "global_step": step}, folder / "last.ckpt")


def damage_middle(path: Path) -> None:
    content = bytearray(path.read_bytes())
    where = content.index(torch.full((4,), 7.0).numpy().tobytes())
    content[where] ^= 1
    path.write_bytes(content)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.fixture
def module() -> nn.Module:
    module = nn.Linear(4, 1, bias=False)
    nn.init.constant_(module.weight, 7.0)
    return module


def test_last_and_the_one_before_are_kept(tmp_path: Path, module: nn.Module) -> None:
    assert newest_checkpoint(tmp_path, module) is None
    for step in (1, 2, 3):
        save(tmp_path, module, step)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last.ckpt", "previous.ckpt"]
    assert newest_checkpoint(tmp_path, module) == (tmp_path / "last.ckpt", 3)
    # a crash between the two renames
    (tmp_path / "last.ckpt").unlink()
    assert newest_checkpoint(tmp_path, module) == (tmp_path / "previous.ckpt", 2)


def test_what_killed_processes_left_is_removed(
    tmp_path: Path, module: nn.Module, caplog: pytest.LogCaptureFixture
) -> None:
    save(tmp_path, module, 1)
    save(tmp_path, module, 2)
    (tmp_path / "last.ckpt.damaged").write_bytes(b"0")
    kept = sorted(path.name for path in tmp_path.iterdir())
    for pid in (17, 4711):
        (tmp_path / f".last.ckpt.{pid}").write_bytes(b"half of a checkpoint")
    with caplog.at_level(logging.WARNING, "rla_exp"):
        remove_unfinished(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == kept
    assert newest_checkpoint(tmp_path, module) == (tmp_path / "last.ckpt", 2)
    assert sorted(re.findall(r"\.last\.ckpt\.\d+", caplog.text)) == [".last.ckpt.17", ".last.ckpt.4711"]


@pytest.mark.parametrize("harm", [damage_middle, truncate, empty])
def test_damaged_checkpoint_falls_back(
    tmp_path: Path, module: nn.Module, caplog: pytest.LogCaptureFixture, harm: object
) -> None:
    save(tmp_path, module, 1)
    save(tmp_path, module, 2)
    assert callable(harm)
    harm(tmp_path / "last.ckpt")
    with caplog.at_level(logging.WARNING, "rla_exp"):
        assert newest_checkpoint(tmp_path, module) == (tmp_path / "previous.ckpt", 1)
    assert "last.ckpt is damaged" in caplog.text
    assert (tmp_path / "last.ckpt.damaged").exists()
    harm(tmp_path / "previous.ckpt")
    assert newest_checkpoint(tmp_path, module) is None
    assert "previous.ckpt is damaged" in caplog.text


class Code:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch owned",)


def test_code_in_a_checkpoint_does_not_run(tmp_path: Path, module: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": Code(), "global_step": 1}, tmp_path / "last.ckpt")
    assert newest_checkpoint(tmp_path, module) is None
    assert not (tmp_path / "owned").exists()


def test_checkpoint_of_another_model(tmp_path: Path, module: nn.Module) -> None:
    save(tmp_path, nn.Sequential(nn.Linear(4, 1)), 1)
    with pytest.raises(RunError) as caught:
        newest_checkpoint(tmp_path, module)
    assert str(caught.value).splitlines() == [
        f"{tmp_path / 'last.ckpt'} is of another model:",
        "  0.bias: not in this model",
        "  0.weight: not in this model",
        "  weight: not in the checkpoint",
        "Move it away to start over.",
    ]
    save(tmp_path, nn.Linear(5, 1, bias=False), 1)
    with pytest.raises(RunError, match=r"  weight: \[1, 5\] in the checkpoint, \[1, 4\] in this model"):
        newest_checkpoint(tmp_path, module)


def test_folder_that_is_gone(tmp_path: Path, module: nn.Module) -> None:
    with pytest.raises(RunError, match=r"cannot write checkpoint .*; there is none before it\. Free space"):
        save(tmp_path / "gone", module, 1)
