"""What is better than what: paired differences to a reference row, and the best row of a group."""

from __future__ import annotations

import statistics
from dataclasses import replace
from typing import Literal

from rla_exp.report.cell import Cell
from rla_exp.report.columns import ComparedColumn, MetricColumn, selection_metric
from rla_exp.report.outcome import Outcome
from rla_exp.report.summary import paired_difference, summarize


def compare(cells: dict[str, Cell], column: ComparedColumn) -> dict[str, Cell]:
    """The cells of one group, by row key, with their differences, marks and the best one."""
    compared = {}
    for row, cell in cells.items():
        reference = cell.row.reference
        values = shown_by_seed(cell, column) if row != reference else {}
        baseline = shown_by_seed(cells[reference], column) if reference in cells else {}
        difference = paired_difference(values, baseline, reference)
        mark: Literal["better", "worse"] | None = None
        if difference is not None and difference.told_apart:
            mark = "better" if (difference.mean > 0) == (column.direction == "max") else "worse"
        chosen_by = summarize(_chosen_by_seed(cell, column).values())
        compared[row] = replace(cell, selection=chosen_by, difference=difference, mark=mark)
    best = _best_row(compared, column)
    return {row: replace(cell, best=row == best) for row, cell in compared.items()}


def number_of(run: Outcome, column: ComparedColumn) -> float | None:
    """The number that a finished run has for the column; None where its evaluation is not there."""
    if isinstance(column, MetricColumn):
        return float(run.metrics[column.metric])
    return run.scores.get(column.key)


def shown_by_seed(cell: Cell, column: ComparedColumn) -> dict[int, float]:
    """The numbers that the cell shows, by seed."""
    numbers = {run.request.seed: number_of(run, column) for run in cell.runs if run.state == "done"}
    return {seed: number for seed, number in numbers.items() if number is not None}


def _chosen_by_seed(cell: Cell, column: ComparedColumn) -> dict[int, float]:
    """The numbers that choose the best cell. Of evaluation suites there is one split only: the numbers shown."""
    if not isinstance(column, MetricColumn):
        return shown_by_seed(cell, column)
    metric = selection_metric(column)
    return {run.request.seed: float(run.metrics[metric]) for run in cell.runs if run.state == "done"}


def _best_row(cells: dict[str, Cell], column: ComparedColumn) -> str | None:
    """The row that is best on validation data and told apart from every other row of its group, if there is one.

    The numbers shown must say the same, so that no bold cell is one that they do not tell apart. While numbers are
    missing there is no best row; a row with a failed seed cannot be it and is not compared.
    """
    ran = {row: cell for row, cell in cells.items() if cell.runs and not cell.count("failed")}
    if len(ran) < 2 or any(cell.num_missing for cell in cells.values()):
        return None
    chosen = {row: _chosen_by_seed(cell, column) for row, cell in ran.items()}
    shown = {row: shown_by_seed(cell, column) for row, cell in ran.items()}
    sign = 1 if column.direction == "max" else -1
    best = max(chosen, key=lambda row: sign * statistics.mean(chosen[row].values()))
    for numbers in (chosen, shown):
        for row in numbers.keys() - {best}:
            difference = paired_difference(numbers[best], numbers[row], row)
            if difference is None or not difference.told_apart or sign * difference.mean <= 0:
                return None
    return best
