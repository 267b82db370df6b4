"""The tables and figures of `results/`, and the runs that each of their cells comes from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

from rla_exp.errors import UserError
from rla_exp.report.caption import MARKS
from rla_exp.runs.files import read_json

CELLS_FILE = "cells.json"
DETAILS = {"metric": "metric", "n": "n", "mean": "mean", "sd": "sd", "half_width": "95% interval ±"}
"""What is told of a cell: keys of cells.json and their words."""
FIGURES = ("figure.svg", "figure.png")
"""What is shown of a table's figure: the first that is there."""


@dataclass(frozen=True)
class ShownCell:
    """A cell and where it comes from."""

    text: str
    mark: str
    best: bool
    details: list[tuple[str, str]]
    """Names and values: n, sd, metric, paired difference."""
    runs: list[dict[str, Any]]
    """Each: study, seed, state, value (None where there is none), page (None where the run is not on this machine)."""


@dataclass(frozen=True)
class ShownRow:
    """A line of a table."""

    label: str
    cells: list[ShownCell | None]


@dataclass(frozen=True)
class ShownTable:
    """A table as its cells.json holds it."""

    name: str
    folder: Path
    title: str
    warning: str | None
    notes: list[str]
    columns: list[tuple[str, str]]
    """Study and label."""
    groups: list[tuple[str, list[ShownRow]]]
    figure: str | None
    files: list[str] = field(default_factory=list)
    """What else is in the folder, to download."""

    @property
    def anchor(self) -> str:
        """Its id in the page."""
        return self.name.replace("/", "-")


def read_tables(results: Path, pages: Mapping[str, str]) -> tuple[list[ShownTable], list[str]]:
    """Every table below the folder `results`, and what could not be read.

    Args:
        pages: by the key of a run, the address of its page.
    """
    tables, problems = [], []
    for file in sorted(results.rglob(CELLS_FILE)):
        name = file.parent.relative_to(results).as_posix()
        try:
            content = read_json(file)
            if content is not None:
                tables.append(_table(name, file.parent, content, pages))
        except UserError as error:
            problems.append(str(error))
        except (KeyError, TypeError, AttributeError) as error:
            problems.append(f"{file} is not as `rla-table` writes it ({error!r}); write the table again")
    return tables, problems


def _table(name: str, folder: Path, content: Mapping[str, Any], pages: Mapping[str, str]) -> ShownTable:
    columns: Mapping[str, Mapping[str, Any]] = content["columns"]
    # published numbers stand in columns of their own
    sources = {name: f"{source['title']} ({source['url']})" for name, source in content.get("reported", {}).items()}
    cells = {(cell["group"], cell["row"], cell["column"]): cell for cell in content["cells"]}

    def row(entry: Mapping[str, Any]) -> ShownRow:
        found = [cells.get((entry["group"], entry["row"], key)) for key in columns]
        return ShownRow(entry["label"], [None if cell is None else _cell(cell, pages, sources) for cell in found])

    files = sorted(path.name for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    return ShownTable(
        name=name,
        folder=folder,
        title=content["title"],
        warning=content.get("warning"),
        notes=list(content.get("notes", [])),
        columns=[(column["study"], column["label"]) for column in columns.values()],
        groups=[
            (label, [row(entry) for entry in entries]) for (_, label), entries in groupby(content["rows"], key=_group)
        ],
        figure=next((figure for figure in FIGURES if figure in files), None),
        files=files,
    )


def _group(row: Mapping[str, Any]) -> tuple[str, str]:
    """Key and label of the group that a row is in; files of earlier versions have the key alone."""
    key = str(row["group"])
    return key, str(row.get("group_label", key))


def _cell(cell: Mapping[str, Any], pages: Mapping[str, str], sources: Mapping[str, str]) -> ShownCell:
    values: Mapping[str, float] = cell.get("values") or {}
    runs = [
        {
            "study": run["study"],
            "seed": run["seed"],
            "state": run["state"],
            "value": values.get(f"{run['study']}/seed{run['seed']}"),
            "page": pages.get(run["folder"] or ""),
        }
        for run in cell.get("runs") or []
    ]
    told = DETAILS if cell.get("n") else {}
    details = [(word, _short(cell[key])) for key, word in told.items() if cell.get(key) is not None]
    difference = cell.get("difference")
    if isinstance(difference, Mapping):
        details += [(f"difference, {key}", _short(value)) for key, value in difference.items() if value is not None]
    reported = cell.get("reported")
    if isinstance(reported, Mapping):
        details = [("reported", f"not measured here: {sources[reported['source']]}"), ("where", reported["where"])]
    return ShownCell(cell["text"], MARKS.get(cell.get("mark"), ""), bool(cell.get("best")), details, runs)


def _short(value: Any) -> str:
    return f"{value:.5g}" if isinstance(value, float) else str(value)
