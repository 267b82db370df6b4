"""The static site: one folder of files that a browser opens without server or network.

index.html                   states, what needs attention, every run with filters
curves.html                  curves by group, seeds as bands
layers.html                  gates, residuals and states by layer
tables.html                  tables, their cells' runs, figures
runs/<key of the run>.html   a run: numbers, curves, configuration, environment, log
assets/                      style, scripts, the chart library (once for all pages)
data/                        index.js, and what is drawn, a file a group, loaded when it is shown
"""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from jinja2 import Environment

from rla_exp.dashboard.groups import Group, group_runs
from rla_exp.dashboard.pages import make_environment
from rla_exp.dashboard.payloads import curves, group_index, layer_curves, script
from rla_exp.dashboard.records import RunRecord, read_records
from rla_exp.dashboard.tables import ShownTable, read_tables
from rla_exp.errors import UserError

MARKER = ".rla-dashboard"
"""A file in every site: what may be replaced."""
STATES = ("running", "queued", "done", "interrupted", "died", "failed", "unknown")
PAGES = ("index", "curves", "layers", "tables")


@dataclass(frozen=True)
class Site:
    """What was built."""

    index: Path
    records: list[RunRecord]
    """The runs that it shows."""
    num_tables: int
    problems: list[str]
    """Files that could not be read; the site shows them too."""


def build_site(runs: Path, results: Path, out: Path) -> Site:
    """Build the site from the folders `runs` and `results` in the folder `out`; an older site there is replaced.

    Raises:
        UserError: `out` holds something else, or cannot be written; what was there before is unchanged.
    """
    _check_replaceable(out)
    records = read_records(runs)
    groups = group_runs(records)
    pages = {record.key: f"runs/{record.key}.html" for record in records}
    tables, table_problems = read_tables(results, pages)
    problems = [problem for record in records for problem in record.problems] + table_problems
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as made:
            folder = Path(made) / "site"
            _write_assets(folder)
            _write_data(folder, groups)
            _write_tables(folder, tables)
            _write_pages(folder, groups, tables, pages, problems)
            _replace(out, folder, Path(made) / "replaced")
    except OSError as error:
        raise UserError(
            f"the dashboard cannot be written to {out}: {error.strerror or error}; "
            "choose another folder with out=FOLDER or free space"
        ) from error
    return Site(out / "index.html", records, len(tables), problems)


def _check_replaceable(out: Path) -> None:
    """Nothing but an older site is ever replaced."""
    if not out.exists() or (out / MARKER).is_file() or (out.is_dir() and not any(out.iterdir())):
        return
    raise UserError(f"{out} is not a dashboard and would be replaced by one; choose another folder with out=FOLDER")


def _replace(out: Path, new: Path, aside: Path) -> None:
    """Put `new` where `out` is, which goes to `aside`; where that fails, `out` is put back."""
    if not out.exists():
        new.rename(out)
        return
    out.rename(aside)
    try:
        new.rename(out)
    except OSError:
        aside.rename(out)
        raise


def _write_assets(folder: Path) -> None:
    assets = folder / "assets"
    assets.mkdir(parents=True)
    (folder / MARKER).write_text("", encoding="utf-8")
    static = resources.files("rla_exp.dashboard") / "static"
    for file in (*static.iterdir(), *(static / "vendor").iterdir()):
        if file.is_file():
            (assets / file.name).write_bytes(file.read_bytes())


def _write_data(folder: Path, groups: Iterable[Group]) -> None:
    for kind in ("curves", "layers"):
        (folder / "data" / kind).mkdir(parents=True)
    index = group_index(groups)
    (folder / "data" / "index.js").write_text(script("rla.setIndex", index), encoding="utf-8")
    for entry, group in zip(index, groups, strict=True):
        name = f"{entry['id']}.js"
        text = script("rla.receive", "curves", entry["id"], curves(group))
        (folder / "data" / "curves" / name).write_text(text, encoding="utf-8")
        if entry["layers"]:
            text = script("rla.receive", "layers", entry["id"], layer_curves(group))
            (folder / "data" / "layers" / name).write_text(text, encoding="utf-8")


def _write_tables(folder: Path, tables: Iterable[ShownTable]) -> None:
    for table in tables:
        (folder / "results" / table.name).mkdir(parents=True)
        for file in table.files:
            shutil.copyfile(table.folder / file, folder / "results" / table.name / file)


def _write_pages(
    folder: Path, groups: list[Group], tables: list[ShownTable], pages: Mapping[str, str], problems: list[str]
) -> None:
    environment = make_environment()
    records = [run for group in groups for run in group.runs]
    built = time.time()
    shared: dict[str, Any] = {"built": built, "num_runs": len(records)}
    states: Counter[str] = Counter(record.state for record in records)
    content = {
        **shared,
        "groups": groups,
        "pages": pages,
        "states": {state: states[state] for state in STATES if states[state]},
        "experiments": _experiments(groups),
        "attention": [run for run in records if run.state in ("failed", "died", "interrupted", "unknown")],
        "problems": problems,
        "tables": tables,
        "choices": _choices(groups, states),
    }
    for page in PAGES:
        _render(environment, f"{page}.html", folder / f"{page}.html", root="", page=page, **content)
    for number, group in enumerate(groups):
        for run in group.runs:
            file = folder / pages[run.key]
            file.parent.mkdir(parents=True, exist_ok=True)
            root = "../" * (run.key.count("/") + 1)
            about = {"run": run, "group": group, "group_id": number, "pages": pages}
            _render(environment, "run.html", file, root=root, page="run", **about, **shared)


def _render(environment: Environment, template: str, file: Path, **values: Any) -> None:
    file.write_text(environment.get_template(template).render(**values), encoding="utf-8")


def _experiments(groups: Iterable[Group]) -> dict[str, Counter[str]]:
    """The states of every experiment's runs, and under "groups" the number of its groups."""
    found: dict[str, Counter[str]] = {}
    for group in groups:
        counts = found.setdefault(group.experiment, Counter())
        counts["groups"] += 1
        counts.update(run.state for run in group.runs)
    return found


def _choices(groups: Iterable[Group], states: Counter[str]) -> dict[str, list[str]]:
    """What can be filtered by, with all values that occur."""
    names = ("experiment", "model", "ablation", "data")
    values = {name: sorted({getattr(group, name) for group in groups} - {""}) for name in names}
    return {**values, "state": [state for state in STATES if states[state]]}
