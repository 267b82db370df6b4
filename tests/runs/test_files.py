"""Atomic writes."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from rla_exp.errors import RunError
from rla_exp.runs.files import read_json, write_atomically, write_json


def test_write_and_read(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"x": 1.5, "y": None})
    write_json(tmp_path / "a.json", {"x": 2.5})
    assert read_json(tmp_path / "a.json") == {"x": 2.5}
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
    assert read_json(tmp_path / "b.json") is None


def test_full_disk_keeps_the_old_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a.json"
    write_atomically(file, "old")

    def fail(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(RunError, match=r"cannot write .*a\.json: No space left on device; free space"):
        write_atomically(file, "new")
    assert file.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_json_has_no_nan(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(tmp_path / "a.json", {"x": float("nan")})


@pytest.mark.parametrize(("text", "message"), [("{", "cannot read"), ("[1]", "should hold a JSON object, not list")])
def test_damaged_file(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(RunError, match=message):
        read_json(tmp_path / "a.json")
