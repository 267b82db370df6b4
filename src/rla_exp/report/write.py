"""A table's files: results/<table>/<scale>/."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile

from matplotlib.figure import Figure

from rla_exp.errors import UserError
from rla_exp.report.cells import to_cells
from rla_exp.report.delimited import to_csv
from rla_exp.report.environments import to_environments
from rla_exp.report.figure import draw_figure, save_figure
from rla_exp.report.latex import to_latex
from rla_exp.report.markdown import to_markdown
from rla_exp.report.outcome import each_once
from rla_exp.report.table import Table


def check_writable(folder: Path) -> None:
    """Make the folder of a table if it is not there; UserError where nothing can be written into it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise _refusal(folder, error) from error


def write_table(table: Table, folder: Path) -> None:
    """Write table.md, .csv and .tex, cells.json, environment.json, figure.png and .svg into `folder`, made if needed.

    The same runs give the same bytes. Each file is replaced in one step, after all of them are on the disk. Raises
    UserError where the folder cannot be written; what was there before is unchanged where the disk is full.
    """
    runs = each_once([*table.outcomes, *(run for choice in table.choices for run in choice.runs)])
    texts = {
        "table.md": to_markdown(table),
        "table.csv": to_csv(table),
        "table.tex": to_latex(table),
        "cells.json": _json(to_cells(table)),
        "environment.json": _json(to_environments(runs)),
    }
    write_files(folder, texts, draw_figure(table))


def _json(content: object) -> str:
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def write_files(folder: Path, texts: Mapping[str, str], figure: Figure) -> None:
    """Write the texts by name, and the figure; each file is replaced in one step, after all are on the disk.

    Raises UserError where the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=folder, prefix=".") as made:
            for name, text in texts.items():
                (Path(made) / name).write_text(text, encoding="utf-8")
            save_figure(figure, Path(made))
            for file in sorted(Path(made).iterdir()):
                file.replace(folder / file.name)
    except OSError as error:
        raise _refusal(folder, error) from error


def _refusal(folder: Path, error: OSError) -> UserError:
    return UserError(
        f"the table cannot be written to {folder}: {error.strerror or error}; "
        "choose another folder with results=FOLDER or free space"
    )
