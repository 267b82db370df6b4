"""A table: every cell's runs, statistics and marks, before any format."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from rla_exp.errors import ConfigError
from rla_exp.report.cell import NOT_RUN, Cell
from rla_exp.report.columns import (
    AnyColumn,
    ComparedColumn,
    ConstantColumn,
    CountColumn,
    LearningRateColumn,
    ReportedColumn,
    selection_metric,
    study_of,
)
from rla_exp.report.comparison import compare, number_of
from rla_exp.report.learning_rate import Choice
from rla_exp.report.number import format_number, format_spread
from rla_exp.report.outcome import Origin, Outcome, read_origins, read_outcomes, refuse_mixed
from rla_exp.report.spec import Row, RunRequest, TableSpec
from rla_exp.report.summary import Summary, summarize
from rla_exp.report.traces import put_together, trace
from rla_exp.report.unknown import unknown_name

__all__ = ["NOT_RUN", "Cell", "Table", "collect"]


@dataclass(frozen=True)
class Table:
    """All cells, by row id and column key."""

    spec: TableSpec
    cells: dict[tuple[str, str], Cell]
    outcomes: list[Outcome]
    origins: list[Origin]
    choices: Sequence[Choice] = ()
    """How learning rates were chosen, where the table has a rule for that."""

    def count(self, state: Literal["done", "failed", "missing"]) -> int:
        """How many of the table's runs are in this state."""
        return sum(run.state == state for run in self.outcomes)


def collect(
    spec: TableSpec, folders: Mapping[RunRequest, Path], *, mixed: bool = False, choices: Sequence[Choice] = ()
) -> Table:
    """Read the runs that are there and make the table of them.

    Raises ConfigError where a column names a number that a finished run does not have, and MixedRunsError where
    sources, devices or corpora differ, unless `mixed`.
    """
    outcomes = read_outcomes(spec, folders)
    _check_keys(spec, outcomes)
    origins = read_origins(
        spec, [*outcomes, *(run for choice in choices for run in choice.runs if run.state == "done")]
    )
    if not mixed:
        refuse_mixed(origins)
    cells: dict[tuple[str, str], Cell] = {}
    for key, column in spec.columns.items():
        for group in dict.fromkeys(row.group for row in spec.rows):
            rows = [row for row in spec.rows if row.group == group]
            cells |= {(cell.row.id, key): cell for cell in _group_cells(spec, key, column, rows, outcomes)}
    return Table(spec, cells, outcomes, origins, choices)


def _group_cells(spec: TableSpec, key: str, column: AnyColumn, rows: list[Row], outcomes: list[Outcome]) -> list[Cell]:
    if isinstance(column, ReportedColumn):
        return [_reported_cell(spec, row, key, column) for row in rows]
    cells = {row.key: _plain_cell(row, key, column, [o for o in outcomes if o.request.row == row.id]) for row in rows}
    if isinstance(column, ComparedColumn) and column.direction is not None:
        cells = compare(cells, column)
    return list(cells.values())


def _cell(row: Row, key: str, runs: Sequence[Outcome], number: str, gaps: str = "", num_missing: int = 0) -> Cell:
    return Cell(
        row=row,
        column=key,
        runs=tuple(runs),
        values={},
        summary=None,
        selection=None,
        difference=None,
        mark=None,
        best=False,
        number=number,
        gaps=gaps,
        num_missing=num_missing,
    )


def _reported_cell(spec: TableSpec, row: Row, key: str, column: ReportedColumn) -> Cell:
    value = spec.reported_value(column, row)
    return _cell(row, key, [], "" if value is None else format_number(value, column.format))


def _plain_cell(row: Row, key: str, column: AnyColumn, outcomes: list[Outcome]) -> Cell:
    study = study_of(column)
    runs = [run for run in outcomes if study is None or run.request.study == study]
    numbers = [(run, _number_of(column, run)) for run in runs]
    values = {f"{run.request.study}/seed{run.request.seed}": number for run, number in numbers if number is not None}
    summary = summarize(values.values())
    failed = sum(run.state == "failed" for run in runs)
    # what a failed run lacks is not missing, and a finished one may lack its evaluation
    missing = sum(number is None and run.state != "failed" for run, number in numbers)
    cell = _cell(
        row,
        key,
        runs,
        "" if summary is None else _text(column, summary),
        _gaps(column, len(runs), failed, missing, known=summary is not None),
        missing,
    )
    return replace(cell, values=values, summary=summary)


def _number_of(column: AnyColumn, run: Outcome) -> float | None:
    """What one run adds to a cell; None where it has no number (yet)."""
    done, ended = run.state == "done", run.state != "missing"
    match column.kind:
        case "metric" | "score":
            return number_of(run, column) if done else None
        case "trace":
            return put_together(trace(run.lines, column), column) if ended else None
        case "constant":
            return float(run.metrics[column.metric]) if done else None
        case "timing":
            return float(run.timing[column.timing]) if done else None
        case "learning_rate":
            text = run.request.setting("optim.lr")
            return None if text is None else float(text)
        case "learned":
            return float(done and run.metrics[column.metric] > column.above) if ended else None
        case "diverged":
            return float(run.diverged) if ended else None
        case "failed":
            return float(run.state == "failed") if ended else None
        case "reported":
            return None


def _text(column: AnyColumn, summary: Summary) -> str:
    if isinstance(column, CountColumn):
        return f"{round(summary.mean * summary.n)} of {summary.n}"
    if isinstance(column, LearningRateColumn):
        return f"{summary.mean:.3g}"
    assert not isinstance(column, ReportedColumn)
    if summary.sd is None or (isinstance(column, ConstantColumn) and not summary.sd):
        return format_number(summary.mean, column.format)
    return format_spread(summary.mean, summary.sd, column.format)


def _gaps(column: AnyColumn, planned: int, failed: int, missing: int, *, known: bool) -> str:
    if isinstance(column, ConstantColumn | LearningRateColumn) and known:
        return ""
    # where runs are counted, failed ones are in the count
    counts = {"missing": missing} if isinstance(column, CountColumn) else {"failed": failed, "missing": missing}
    return ", ".join(f"{state} ({count} of {planned})" for state, count in counts.items() if count)


def _check_keys(spec: TableSpec, outcomes: list[Outcome]) -> None:
    """Refuse columns that name what finished runs do not have, all at once."""
    problems = []
    for key, column in spec.columns.items():
        for run in outcomes:
            if run.state != "done" or run.request.study != study_of(column):
                continue
            wanted, known = _wanted(column, run)
            lacking = [name for name in wanted if name not in known]
            problems += [f"columns.{key}: {run.folder}: {unknown_name('key', name, sorted(known))}" for name in lacking]
            # one run shows what is wrong with the column
            if lacking:
                break
    if problems:
        raise ConfigError(problems)


def _wanted(column: AnyColumn, run: Outcome) -> tuple[list[str], Collection[str]]:
    """The keys that a finished run must have for a column, and those that it has."""
    match column.kind:
        case "metric" if column.direction is not None:
            return [column.metric, selection_metric(column)], run.metrics
        case "metric" | "constant" | "learned":
            return [column.metric], run.metrics
        case "timing":
            return [column.timing], run.timing
        case "score" if any(key.startswith(f"eval/{column.suite}/{column.task}/") for key in run.scores):
            return [column.key], run.scores
        case "trace" if not trace(run.lines, column):
            return [column.metric], {name for line in run.lines for name in line}
        case _:
            return [], ()
