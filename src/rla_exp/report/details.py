"""The second table of table.md: 95% intervals, and each row's paired difference to its reference."""

from __future__ import annotations

from rla_exp.report.columns import ComparedColumn
from rla_exp.report.number import format_number
from rla_exp.report.summary import Difference, Summary
from rla_exp.report.table import Cell, Table


def compared_columns(table: Table) -> dict[str, ComparedColumn]:
    """The columns in which one row can be better than another."""
    columns = {key: column for key, column in table.spec.columns.items() if isinstance(column, ComparedColumn)}
    return {key: column for key, column in columns.items() if column.direction is not None}


def has_details(table: Table) -> bool:
    """Whether there is anything to say of spreads: one seed has none."""
    return len(table.spec.seeds) > 1 and bool(compared_columns(table))


def detail(cell: Cell, column: ComparedColumn) -> str:
    """0.936 [0.916, 0.956]; Δ -0.012 [-0.030, 0.006], p 0.12."""
    if cell.summary is None:
        return cell.text
    fewer = f" (n {cell.summary.n})" if cell.summary.n < len(cell.runs) else ""
    parts = [_interval(cell.summary, column.format) + fewer]
    if cell.difference is not None:
        parts.append(f"Δ {_interval(cell.difference, column.format)}{_p(cell.difference)}")
    return "; ".join(parts)


def _interval(number: Summary | Difference, specification: str) -> str:
    mean = format_number(number.mean, specification)
    if number.half_width is None:
        return mean
    low, high = (
        format_number(end, specification) for end in (number.mean - number.half_width, number.mean + number.half_width)
    )
    return f"{mean} [{low}, {high}]"


def _p(difference: Difference) -> str:
    if difference.p is None:
        return ""
    return ", p < 0.001" if difference.p < 0.001 else f", p {difference.p:.2g}"
