"""A table: every cell's runs, statistics and marks, before any format."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from rla_exp.errors import ConfigError
from rla_exp.report.number import format_number, format_spread
from rla_exp.report.outcome import Origin, Outcome, read_origins, read_outcomes, refuse_mixed
from rla_exp.report.spec import Row, RunRequest, TableSpec
from rla_exp.report.spec_file import AnyColumn, MetricColumn, unknown_name
from rla_exp.report.summary import Difference, Summary, paired_difference, summarize

NOT_RUN = "\N{EN DASH}"


@dataclass(frozen=True)
class Cell:
    """One row's number in one column."""

    row: Row
    column: str
    runs: tuple[Outcome, ...]
    """Every run that the cell needs; empty where the row is not run for this column."""
    values: dict[str, float]
    """The cell's number of each run that has one, by the run's <study>/seed<k>."""
    summary: Summary | None
    selection: Summary | None
    """The numbers that choose the best cell: those on validation data where the column shows test data."""
    difference: Difference | None
    """Paired differences to the reference row of the group, over the seeds that both have."""
    mark: Literal["better", "worse"] | None
    """How the row stands to the reference row, where the difference is told apart from zero."""
    best: bool
    number: str
    """The number as it is read: 0.912 ± 0.021; empty where no run has one."""
    gaps: str
    """What the number lacks: missing (1 of 3); empty where it lacks nothing."""

    @property
    def text(self) -> str:
        """What stands in the cell, without marks: 0.912 ± 0.021, missing (1 of 3)."""
        return ", ".join(part for part in (self.number, self.gaps) if part) or NOT_RUN

    def count(self, state: Literal["done", "failed", "missing"]) -> int:
        """How many of the cell's runs are in this state."""
        return sum(run.state == state for run in self.runs)


@dataclass(frozen=True)
class Table:
    """All cells, by row id and column key."""

    spec: TableSpec
    cells: dict[tuple[str, str], Cell]
    outcomes: list[Outcome]
    origins: list[Origin]

    def count(self, state: Literal["done", "failed", "missing"]) -> int:
        """How many of the table's runs are in this state."""
        return sum(run.state == state for run in self.outcomes)


def collect(spec: TableSpec, folders: Mapping[RunRequest, Path], *, mixed: bool = False) -> Table:
    """Read the runs that are there and make the table of them.

    Raises ConfigError where a column names a number that a finished run does not have, and MixedRunsError where
    sources, devices or corpora differ, unless `mixed`.
    """
    outcomes = read_outcomes(spec, folders)
    _check_keys(spec, outcomes)
    origins = read_origins(spec, outcomes)
    if not mixed:
        refuse_mixed(origins)
    cells: dict[tuple[str, str], Cell] = {}
    for key, column in spec.columns.items():
        for group in dict.fromkeys(row.group for row in spec.rows):
            rows = [row for row in spec.rows if row.group == group]
            cells |= {(cell.row.id, key): cell for cell in _group_cells(spec, key, column, rows, outcomes)}
    return Table(spec, cells, outcomes, origins)


def selection_metric(column: MetricColumn) -> str:
    """The key that best cells are chosen by: never one of the test split."""
    return "valid/" + column.metric.removeprefix("test/") if column.metric.startswith("test/") else column.metric


def _group_cells(spec: TableSpec, key: str, column: AnyColumn, rows: list[Row], outcomes: list[Outcome]) -> list[Cell]:
    cells = {row.key: _plain_cell(row, key, column, [o for o in outcomes if o.request.row == row.id]) for row in rows}
    if not isinstance(column, MetricColumn) or column.direction is None:
        return list(cells.values())
    cells = _with_differences(cells, spec.reference, column)
    best = _best_row(cells, column)
    return [replace(cell, best=row == best) for row, cell in cells.items()]


def _plain_cell(row: Row, key: str, column: AnyColumn, outcomes: list[Outcome]) -> Cell:
    runs = [run for run in outcomes if column.kind == "failed" or run.request.study == column.study]
    values = {f"{run.request.study}/seed{run.request.seed}": number for run, number in _numbers(column, runs)}
    summary = summarize(values.values())
    return Cell(
        row=row,
        column=key,
        runs=tuple(runs),
        values=values,
        summary=summary,
        selection=None,
        difference=None,
        mark=None,
        best=False,
        number="" if summary is None else _number(column, summary),
        gaps=_gaps(column, runs, summary),
    )


def _numbers(column: AnyColumn, runs: list[Outcome]) -> list[tuple[Outcome, float]]:
    done = [run for run in runs if run.state == "done"]
    match column.kind:
        case "metric" | "constant":
            return [(run, float(run.metrics[column.metric])) for run in done]
        case "timing":
            return [(run, float(run.timing[column.timing])) for run in done]
        case "learned":
            ended = [run for run in runs if run.state != "missing"]
            return [(run, float(run.state == "done" and run.metrics[column.metric] > column.above)) for run in ended]
        case "failed":
            return [(run, float(run.state == "failed")) for run in runs if run.state != "missing"]


def _number(column: AnyColumn, summary: Summary) -> str:
    match column.kind:
        case "learned" | "failed":
            return f"{round(summary.mean * summary.n)} of {summary.n}"
        case "constant" if not summary.sd:
            return format_number(summary.mean, column.format)
        case _:
            if summary.sd is None:
                return format_number(summary.mean, column.format)
            return format_spread(summary.mean, summary.sd, column.format)


def _gaps(column: AnyColumn, runs: list[Outcome], summary: Summary | None) -> str:
    if column.kind == "constant" and summary is not None:
        return ""
    # where runs are counted, failed ones are in the count
    states = ("missing",) if column.kind in ("learned", "failed") else ("failed", "missing")
    counts = {state: sum(run.state == state for run in runs) for state in states}
    return ", ".join(f"{state} ({count} of {len(runs)})" for state, count in counts.items() if count)


def _by_seed(cell: Cell, metric: str) -> dict[int, float]:
    return {run.request.seed: float(run.metrics[metric]) for run in cell.runs if run.state == "done"}


def _with_differences(cells: dict[str, Cell], reference: str, column: MetricColumn) -> dict[str, Cell]:
    selection = selection_metric(column)
    baseline = _by_seed(cells[reference], column.metric) if reference in cells else {}
    compared = {}
    for row, cell in cells.items():
        values = _by_seed(cell, column.metric) if row != reference else {}
        difference = paired_difference(values, baseline, reference)
        mark: Literal["better", "worse"] | None = None
        if difference is not None and difference.told_apart:
            mark = "better" if (difference.mean > 0) == (column.direction == "max") else "worse"
        chosen_by = summarize(_by_seed(cell, selection).values())
        compared[row] = replace(cell, selection=chosen_by, difference=difference, mark=mark)
    return compared


def _best_row(cells: dict[str, Cell], column: MetricColumn) -> str | None:
    """The row that is best on validation data and told apart from every other row of its group, if there is one.

    While runs are missing there is none; a row with a failed seed cannot be it and is not compared.
    """
    if any(cell.count("missing") for cell in cells.values()):
        return None
    selection = selection_metric(column)
    complete = {row: _by_seed(cell, selection) for row, cell in cells.items() if cell.runs and not cell.count("failed")}
    if len(complete) < 2:
        return None
    sign = 1 if column.direction == "max" else -1
    best = max(complete, key=lambda row: sign * statistics.mean(complete[row].values()))
    for row, values in complete.items():
        if row != best:
            difference = paired_difference(complete[best], values, row)
            if difference is None or not difference.told_apart:
                return None
    return best


def _check_keys(spec: TableSpec, outcomes: list[Outcome]) -> None:
    """Refuse columns that name what finished runs do not have, all at once."""
    problems = []
    for key, column in spec.columns.items():
        if column.kind == "failed":
            continue
        done = [run for run in outcomes if run.request.study == column.study and run.state == "done"]
        if column.kind == "timing":
            wanted = [column.timing]
        elif isinstance(column, MetricColumn) and column.direction is not None:
            wanted = [column.metric, selection_metric(column)]
        else:
            wanted = [column.metric]
        for run in done:
            known = run.timing if column.kind == "timing" else run.metrics
            lacking = [name for name in wanted if name not in known]
            problems += [f"columns.{key}: {run.folder}: {unknown_name('key', name, sorted(known))}" for name in lacking]
            # one run shows what is wrong with the column
            if lacking:
                break
    if problems:
        raise ConfigError(problems)
