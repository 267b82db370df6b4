"""Which sources and which commit."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from rla_exp.runs import git_commit, provenance, sources_hash


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    for room in ("kernels", "models", "data", "lit", "generation", "eval", "report"):
        (tmp_path / room).mkdir()
        (tmp_path / room / "a.py").write_text("x = 1\n")
    (tmp_path / "__init__.py").write_text("")
    monkeypatch.setattr(provenance, "PACKAGE", tmp_path)
    sources_hash.cache_clear()
    git_commit.cache_clear()
    yield tmp_path
    sources_hash.cache_clear()
    git_commit.cache_clear()


def fresh_hash(rooms: tuple[str, ...] = provenance.COMPUTING) -> str:
    sources_hash.cache_clear()
    return sources_hash(rooms)


def test_sources_hash_follows_what_computes_numbers(package: Path) -> None:
    before = fresh_hash()
    assert len(before) == 64
    (package / "report" / "a.py").write_text("x = 2\n")
    (package / "kernels" / "notes.txt").write_text("no source")
    assert fresh_hash() == before
    (package / "models" / "a.py").write_text("x = 2\n")
    changed = fresh_hash()
    assert changed != before
    (package / "models" / "a.py").rename(package / "models" / "b.py")
    assert fresh_hash() not in (before, changed)


def test_evaluations_follow_from_other_rooms(package: Path) -> None:
    trained, evaluated = fresh_hash(), fresh_hash(provenance.EVALUATING)
    (package / "lit" / "a.py").write_text("x = 2\n")
    assert fresh_hash(provenance.EVALUATING) == evaluated
    assert fresh_hash() != trained
    trained = fresh_hash()
    # tasks are described there
    (package / "eval" / "task.yaml").write_text("task: x\n")
    assert fresh_hash(provenance.EVALUATING) != evaluated
    assert fresh_hash() == trained


def test_git_commit_and_whether_files_differ(package: Path) -> None:
    def git(*arguments: str) -> str:
        identity = ("-c", "user.name=me", "-c", "user.email=me@example.org")
        return subprocess.run(
            ["git", *identity, *arguments], cwd=package, check=True, capture_output=True
        ).stdout.decode()

    git("init", "-q")
    # not tracked: this checkout is somebody else's
    assert git_commit() is None
    git("add", ".")
    git("commit", "-q", "-m", "first")
    git_commit.cache_clear()
    assert git_commit() == (git("rev-parse", "HEAD").strip(), False)
    (package / "models" / "a.py").write_text("x = 3\n")
    git_commit.cache_clear()
    assert git_commit() == (git("rev-parse", "HEAD").strip(), True)
