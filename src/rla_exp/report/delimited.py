"""table.csv: one line a row, plain numbers, for other programs."""

from __future__ import annotations

import csv
import io

from rla_exp.report.columns import ReportedColumn
from rla_exp.report.table import Cell, Table

FIELDS = ("mean", "sd", "n", "low", "high", "failed", "missing", "difference", "difference_low", "difference_high", "p")


def to_csv(table: Table) -> str:
    """Columns group, row, label, then the FIELDS of each column of the table.

    low and high are the ends of the 95% interval of the mean; difference, its interval's ends and p are those of the
    paired difference to the reference row. What is unknown (the sd of one seed, the mean of none) and what is not run
    is empty. Of a number that others report there is the mean alone.
    """
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["group", "row", "label", *(f"{key}:{field}" for key in table.spec.columns for field in FIELDS)])
    for row in table.spec.rows:
        values = [value for key in table.spec.columns for value in _values(table, table.cells[row.id, key])]
        writer.writerow([row.group, row.key, row.label, *values])
    return stream.getvalue()


def _values(table: Table, cell: Cell) -> list[float | int | str | None]:
    column = table.spec.columns[cell.column]
    if isinstance(column, ReportedColumn):
        value = table.spec.reported_value(column, cell.row)
        return [value, *[None] * (len(FIELDS) - 1)]
    if not cell.runs:
        return [None] * len(FIELDS)
    summary, difference = cell.summary, cell.difference
    numbers: list[float | int | None] = [None, None, 0, None, None]
    if summary is not None:
        numbers = [summary.mean, summary.sd, summary.n, *_ends(summary.mean, summary.half_width)]
    compared: list[float | None] = [None] * 4
    if difference is not None:
        compared = [difference.mean, *_ends(difference.mean, difference.half_width), difference.p]
    return [*numbers, cell.count("failed"), cell.num_missing, *compared]


def _ends(mean: float, half_width: float | None) -> tuple[float | None, float | None]:
    return (None, None) if half_width is None else (mean - half_width, mean + half_width)
