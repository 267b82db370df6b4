"""table.csv: one line a row, plain numbers, for other programs."""

from __future__ import annotations

import csv
import io

from rla_exp.report.table import Cell, Table

FIELDS = ("mean", "sd", "n", "failed", "missing")


def to_csv(table: Table) -> str:
    """Columns group, row, label, then mean, sd, n, failed and missing of each column of the table.

    What is unknown (the sd of one seed, the mean of none) and what is not run is empty.
    """
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["group", "row", "label", *(f"{key}:{field}" for key in table.spec.columns for field in FIELDS)])
    for row in table.spec.rows:
        values = [value for key in table.spec.columns for value in _values(table.cells[row.id, key])]
        writer.writerow([row.group, row.key, row.label, *values])
    return stream.getvalue()


def _values(cell: Cell) -> list[float | int | str | None]:
    if not cell.runs:
        return [None] * len(FIELDS)
    summary = cell.summary
    numbers = [None, None, 0] if summary is None else [summary.mean, summary.sd, summary.n]
    return [*numbers, cell.count("failed"), cell.count("missing")]
