"""A small table with hand-made results: every state that a run can be in, and numbers that a hand can check."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from rla_exp.report import RunRequest, Table, TableSpec, collect

TABLE = """
title: Two rows & a control
caption: A small table.
overrides: [trainer.progress=false]
reference: full
groups:
  rla: {label: RLA, overrides: [model=rla]}
  rdn: {label: RDN, overrides: [model=rdn]}
rows:
  full: {label: full, overrides: [ablation=full]}
  no_clip: {label: no_clip, overrides: [ablation=no_clip]}
  value_state: {label: "\\u03b3 = 1", overrides: [ablation=value_state]}
studies:
  mqar: {label: MQAR, overrides: [optim.lr=1e-2]}
  text: {label: Text}
columns:
  accuracy:
    {kind: metric, study: mqar, label: accuracy, metric: test/accuracy, direction: max, format: .3f, limits: [0, 1],
     figure: true}
  learned: {kind: learned, study: mqar, label: learned, metric: test/accuracy, above: 0.9}
  state: {kind: constant, study: mqar, label: state, metric: state_bytes, format: bytes}
  speed: {kind: timing, study: mqar, label: tokens/s, timing: tokens_per_s, format: si}
  bits: {kind: metric, study: text, label: bits, metric: test/bits, direction: min, format: .2f, figure: true}
  wide: {kind: failed, label: elsewhere, scales: [large]}
  failed: {kind: failed, label: failed}
scales:
  cpu:
    caption: At CPU size.
    lr_rule: one value.
    seeds: [0, 1, 2]
    overrides: [size=tiny, optim.lr=1e-3]
    studies:
      mqar: {overrides: [data=mqar]}
      text: {overrides: [data=stdlib_docs, optim.lr=3e-3], rows: [full, value_state]}
  large:
    warning: Numbers mean nothing.
    caption: Larger.
    lr_rule: tuned.
    seeds: [7]
    studies:
      mqar: {rows: [full, no_clip]}
"""

PROVENANCE = {"sources": "0123456789abcdef" * 4, "device": "a processor", "corpus_sha256": None}
CORPUS = "fedcba9876543210" * 4


@dataclass
class Runs:
    """Run folders below a temporary directory, by (row, study, seed)."""

    spec: TableSpec
    root: Path
    folders: dict[RunRequest, Path] = field(default_factory=dict)

    def folder(self, row: str, study: str, seed: int) -> Path:
        request = next(r for r in self.spec.runs() if (r.row, r.study, r.seed) == (row, study, seed))
        path = self.root / "default" / f"{row.replace('/', '-')}-{study}-00000000" / f"seed{seed}"
        path.mkdir(parents=True, exist_ok=True)
        self.folders[request] = path
        return path

    def done(
        self,
        row: str,
        study: str,
        seed: int,
        metrics: Mapping[str, float],
        tokens_per_s: float = 1000.0,
        **provenance: Any,
    ) -> None:
        corpus = {"corpus_sha256": CORPUS} if study == "text" else {}
        content = {
            "metrics": dict(metrics),
            "timing": {"tokens_per_s": tokens_per_s, "seconds": 1.0},
            "provenance": {**PROVENANCE, **corpus, **provenance},
        }
        (self.folder(row, study, seed) / "result.json").write_text(json.dumps(content), encoding="utf-8")

    def status(self, row: str, study: str, seed: int, state: str, error: str | None = None) -> None:
        content = {"state": state, "error": error}
        (self.folder(row, study, seed) / "status.json").write_text(json.dumps(content), encoding="utf-8")

    def mqar(self, row: str, seed: int, test: float, valid: float, **more: Any) -> None:
        size = 4096.0 if row.endswith("full") else 8192.0
        self.done(row, "mqar", seed, {"test/accuracy": test, "valid/accuracy": valid, "state_bytes": size}, **more)

    def text(self, row: str, seed: int, bits: float, **more: Any) -> None:
        self.done(row, "text", seed, {"test/bits": bits, "valid/bits": bits + 0.1}, **more)

    def collect(self, *, mixed: bool = False) -> Table:
        return collect(self.spec, self.folders, mixed=mixed)


@pytest.fixture
def table_text() -> str:
    """The description of the table `small`."""
    return TABLE


@pytest.fixture
def runs_of(tmp_path: Path) -> Callable[[str], Runs]:
    """runs_of(text): the table `small` by another description, at scale cpu before any run."""

    def make(text: str) -> Runs:
        folder = tmp_path / "table"
        folder.mkdir()
        (folder / "small.yaml").write_text(text, encoding="utf-8")
        return Runs(TableSpec.load("small", "cpu", folder=folder), tmp_path / "runs")

    return make


@pytest.fixture
def tables(tmp_path: Path) -> Path:
    """A folder like conf/table, with the table `small`."""
    folder = tmp_path / "table"
    folder.mkdir()
    (folder / "small.yaml").write_text(TABLE, encoding="utf-8")
    return folder


@pytest.fixture
def empty(tables: Path, tmp_path: Path) -> Runs:
    """The table at scale cpu before any run."""
    return Runs(TableSpec.load("small", "cpu", folder=tables), tmp_path / "runs")


@pytest.fixture
def one_seed(tables: Path, tmp_path: Path) -> Runs:
    """The table at scale large: no text, one seed, and a warning."""
    return Runs(TableSpec.load("small", "large", folder=tables), tmp_path / "runs")


@pytest.fixture
def runs(empty: Runs) -> Runs:
    """RLA: finished but for one failed seed. RDN: partly missing, one row failed throughout."""
    accuracies: dict[str, Callable[[int], tuple[float, float]]] = {
        "rla/full": lambda seed: ((0.90, 0.92, 0.94)[seed], (0.91, 0.93, 0.95)[seed]),
        "rla/no_clip": lambda seed: ((0.50, 0.51, 0.55)[seed], (0.50, 0.50, 0.53)[seed]),
    }
    for row, accuracy in accuracies.items():
        for seed in range(3):
            empty.mqar(row, seed, *accuracy(seed), tokens_per_s=21000.0 + 250 * seed)
    empty.mqar("rla/value_state", 0, 0.95, 0.95)
    empty.status("rla/value_state", "mqar", 1, "failed", "loss is not finite at step 7, beginning in blocks.0.mixer")
    empty.mqar("rla/value_state", 2, 0.93, 0.93)
    for seed in range(3):
        empty.text("rla/full", seed, 2.0 + 0.125 * seed)
        empty.text("rla/value_state", seed, 2.25 + 0.125 * seed)
    empty.mqar("rdn/full", 0, 0.98, 0.98)
    empty.mqar("rdn/full", 1, 0.96, 0.97)
    empty.status("rdn/full", "mqar", 2, "running")
    for seed in range(3):
        empty.status("rdn/value_state", "mqar", seed, "failed", "loss is not finite")
    return empty


@pytest.fixture
def table(runs: Runs) -> Table:
    return runs.collect()
