"""A table written from the folders of runs alone, which other machines have trained, on corpora of their own."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from rla_exp.cli import table as command
from rla_exp.config import compose
from rla_exp.report import TableSpec
from rla_exp.runs import Result, RunFolder, Status

UseTables = Callable[[Path], None]
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def text_table(tiny_table: str, tmp_path: Path) -> Path:
    """A folder with a table of text, and what is taken for its runs: trained where the corpus was another one."""
    lines = [line for line in tiny_table.splitlines() if "data." not in line]
    text = "\n".join(lines).replace("data=mqar", "data=stdlib_docs").replace("label: MQAR", "label: Text")
    folder = tmp_path / "tables"
    folder.mkdir()
    (folder / "tiny.yaml").write_text(text.replace("test/accuracy@2", "test/bits_per_byte"))
    return folder


def store(runs: Path, overrides: list[str], *, name: str, corpus: str, bits: float) -> Path:
    """A run's folder as another machine leaves it."""
    composed = compose(overrides)
    folder = RunFolder(runs / composed.config.experiment / name / f"seed{composed.config.seed}")
    folder.create()
    folder.write_config({**composed.resolved, "paths": {"runs": "/elsewhere", "cache": None}})
    metrics = {"valid/bits_per_byte": bits, "test/bits_per_byte": bits}
    provenance = {"sources": "5" * 64, "device": "another machine", "corpus_sha256": corpus}
    folder.write_result(Result(metrics, {"tokens_per_s": 1.0, "seconds": 1.0}, provenance))
    folder.write_status(Status(state="done", step=2, max_steps=2))
    return folder.path


def make_runs(folder: Path, runs: Path, *, corpus: str, bits: float) -> list[Path]:
    """All runs of the table."""
    spec = TableSpec.load("tiny", "smoke", folder=folder)
    names = {request: f"{request.row.replace('/', '-')}-{corpus[:8]}" for request in spec.runs()}
    return [
        store(runs, list(request.overrides), name=name, corpus=corpus, bits=bits) for request, name in names.items()
    ]


def test_runs_of_another_corpus_and_machine_are_found_by_their_configuration(
    text_table: Path, tmp_path: Path, use_tables: UseTables, capsys: pytest.CaptureFixture[str]
) -> None:
    use_tables(text_table)
    make_runs(text_table, tmp_path / "runs", corpus="a" * 64, bits=2.0)
    words = ["table=tiny", "scale=smoke", f"runs={tmp_path / 'runs'}", f"results={tmp_path / 'results'}", "train=false"]
    assert command.main(words) == 0, capsys.readouterr()
    table = (tmp_path / "results" / "tiny" / "smoke" / "table.md").read_text()
    assert "corpus of Text aaaaaaaaaaaa" in table
    assert "device another machine" in table
    assert "2.000 ± 0.000" in table


def test_corpora_are_never_mixed(
    text_table: Path, tmp_path: Path, use_tables: UseTables, capsys: pytest.CaptureFixture[str]
) -> None:
    use_tables(text_table)
    runs = tmp_path / "runs"
    first = make_runs(text_table, runs, corpus="a" * 64, bits=2.0)
    second = make_runs(text_table, runs, corpus="b" * 64, bits=3.0)
    words = ["table=tiny", "scale=smoke", f"runs={runs}", f"results={tmp_path / 'results'}", "train=false"]
    # each run is there twice
    assert command.main(words) == 1
    shown = capsys.readouterr().err
    assert "4 runs are there several times" in shown
    assert "corpus aaaaaaaaaaaa" in shown
    assert "corpus bbbbbbbbbbbb" in shown
    assert command.main([*words, "corpus=bbb"]) == 0
    assert "3.000 ± 0.000" in (tmp_path / "results" / "tiny" / "smoke" / "table.md").read_text()
    # a half of each
    capsys.readouterr()
    for folder in (first[0], second[1], second[2], second[3]):
        shutil.rmtree(folder)
    assert command.main(words) == 1
    assert "corpus of Text differs: bbbbbbbbbbbb (1 run), aaaaaaaaaaaa (3 runs)" in capsys.readouterr().err
    assert command.main([*words, "mixed=true"]) == 0
    assert "MIXED" in capsys.readouterr().out


def test_what_is_not_there_is_missing_and_said(run: Run, tmp_path: Path) -> None:
    gone = sorted((tmp_path / "runs").glob("*/rdn-full-*/seed1"))
    shutil.rmtree(gone[0])
    code, out, err = run("train=false")
    assert code == 1
    assert err.startswith(f"1 of 4 runs are not below {tmp_path / 'runs'}: rdn/full mqar seed 1")
    assert "missing (1 of 2)" in out
    # nothing of it was trained or made
    assert not gone[0].exists()


def test_a_run_that_diverged_elsewhere_is_counted(run: Run, tmp_path: Path) -> None:
    (folder,) = (tmp_path / "runs").glob("*/rdn-full-*/seed1")
    (folder / "result.json").unlink()
    error = "NonFiniteError: loss is not finite at step 1, beginning in blocks.0.mixer"
    RunFolder(folder).write_status(Status(state="failed", step=1, max_steps=2, error=error))
    code, out, _ = run("train=false")
    assert code == 0
    assert "1 of 2 |" in out


def test_the_same_numbers_as_where_the_runs_were_trained(run: Run, trained: Path, tmp_path: Path) -> None:
    assert run("train=false")[0] == 0
    for name in ("table.md", "table.csv", "table.tex", "cells.json", "figure.png"):
        here, there = (root / "results" / "tiny" / "smoke" / name for root in (tmp_path, trained))
        assert here.read_bytes() == there.read_bytes(), name
