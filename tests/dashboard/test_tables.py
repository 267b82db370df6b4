"""Tables as `rla-table` writes them: cells, their runs, and the way from a cell to a run's page."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rla_exp.dashboard import build_site
from rla_exp.dashboard.tables import read_tables
from rla_exp.runs import RunFolder

RESULTS = Path(__file__).parents[2] / "results"


def content() -> dict[str, Any]:
    def run(seed: int) -> dict[str, Any]:
        folder = f"study/rdn-full-mqar-00000001/seed{seed}"
        return {"study": "mqar", "seed": seed, "state": "done", "folder": folder, "error": None}

    cell = {"group": "rdn", "row": "full", "column": "accuracy", "text": "0.505 ± 0.007", "metric": "test/accuracy"}
    numbers = {"n": 2, "mean": 0.505, "sd": 0.0070711, "values": {"mqar/seed0": 0.5, "mqar/seed1": 0.51}}
    difference = {"n": 2, "mean": 0.1, "low": 0.05, "high": 0.15}
    return {
        "title": "A table",
        "warning": None,
        "notes": ["Two seeds."],
        "columns": {"accuracy": {"study": "MQAR", "label": "accuracy ↑", "kind": "metric"}},
        "rows": [
            {"group": "rdn", "group_label": "Residual DeltaNet", "row": "full", "label": "full"},
            {"group": "rdn", "group_label": "Residual DeltaNet", "row": "none", "label": "none"},
        ],
        "cells": [
            {**cell, **numbers, "best": True, "mark": "better", "difference": difference, "runs": [run(0), run(1)]}
        ],
    }


@pytest.fixture
def results(tmp_path: Path) -> Path:
    folder = tmp_path / "results/small/cpu"
    folder.mkdir(parents=True)
    (folder / "cells.json").write_text(json.dumps(content()))
    (folder / "figure.png").write_bytes(b"a picture")
    return tmp_path / "results"


def test_a_cell_and_its_runs(results: Path) -> None:
    pages = {"study/rdn-full-mqar-00000001/seed0": "runs/there.html"}
    (table,), problems = read_tables(results, pages)
    assert problems == []
    assert (table.name, table.figure, table.columns) == ("small/cpu", "figure.png", [("MQAR", "accuracy ↑")])
    ((name, (full, none)),) = table.groups
    assert (name, full.label, none.cells) == ("Residual DeltaNet", "full", [None])
    (cell,) = full.cells
    assert cell is not None
    assert (cell.text, cell.mark, cell.best) == ("0.505 ± 0.007", "▲", True)
    assert [(run["page"], run["value"]) for run in cell.runs] == [("runs/there.html", 0.5), (None, 0.51)]
    assert ("difference, low", "0.05") in cell.details


def test_the_page_leads_from_a_cell_to_its_runs(
    results: Path, tmp_path: Path, make_run: Callable[..., RunFolder]
) -> None:
    make_run(tmp_path / "runs", "study/rdn-full-mqar-00000001", seed=1)
    site = build_site(tmp_path / "runs", results, tmp_path / "site").index.parent
    page = (site / "tables.html").read_text(encoding="utf-8")
    assert '<a href="runs/study/rdn-full-mqar-00000001/seed1.html">mqar seed 1</a>' in page
    assert "seed0.html" not in page
    assert (site / "results/small/cpu/figure.png").read_bytes() == b"a picture"


def test_groups_without_a_label_are_called_by_their_keys(results: Path) -> None:
    rows = [{"group": group, "row": "full", "label": "full"} for group in ("rdn", "linear_attention")]
    (results / "small/cpu/cells.json").write_text(json.dumps({**content(), "rows": rows}))
    ((table,), _) = read_tables(results, {})
    assert [name for name, _ in table.groups] == ["rdn", "linear_attention"]


def test_reported_numbers_name_their_source(results: Path) -> None:
    reported = {"source": "paper", "where": "Table 3", "unit": None}
    cell = {"group": "rdn", "row": "full", "column": "paper", "text": "0.9", "n": 0, "mean": None, "values": {}}
    table = content()
    table["columns"]["paper"] = {"study": "reported", "label": "paper", "kind": "reported"}
    table["cells"].append({**cell, "runs": [], "reported": reported})
    table["reported"] = {"paper": {"title": "A paper", "url": "https://example.org/paper", "note": None}}
    (results / "small/cpu/cells.json").write_text(json.dumps(table))
    (shown,), problems = read_tables(results, {})
    assert problems == []
    last = shown.groups[0][1][0].cells[1]
    assert last is not None
    assert last.details == [
        ("reported", "not measured here: A paper (https://example.org/paper)"),
        ("where", "Table 3"),
    ]


def test_a_damaged_table_is_told(results: Path) -> None:
    file = results / "small/cpu/cells.json"
    file.write_text(json.dumps({**content(), "columns": []}))
    tables, problems = read_tables(results, {})
    assert tables == []
    assert len(problems) == 1
    assert "write the table again" in problems[0]
    file.write_text("{")
    assert "cannot read" in read_tables(results, {})[1][0]


def test_the_tables_of_this_repository_are_readable() -> None:
    tables, problems = read_tables(RESULTS, {})
    assert problems == []
    names = {table.name: [name for name, _ in table.groups] for table in tables}
    assert names["ablation/cpu"] == ["RLA", "RDN"]
    assert all(rows for table in tables for _, rows in table.groups)
