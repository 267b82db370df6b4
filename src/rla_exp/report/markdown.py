"""table.md: a GitHub table with its caption below, then the intervals."""

from __future__ import annotations

from rla_exp.report.caption import headers, marked, notes
from rla_exp.report.details import compared_columns, detail, has_details
from rla_exp.report.table import Cell, Table


def to_markdown(table: Table) -> str:
    """The whole file: heading, table, one line a note, and a table of intervals where there are several seeds."""
    spec = table.spec
    titles = [f"{study}: {label}" if study else label for study, label in headers(table).values()]
    warning = [f"**{_escape(spec.warning)}**", ""] if spec.warning else []
    lines = [
        f"## {_escape(spec.title)}",
        "",
        *warning,
        _line(["", "", *(_escape(title) for title in titles)]),
        _line([":--", ":--", *("--:" for _ in titles)]),
    ]
    lines += _rows(table, [[_cell(table.cells[row.id, key]) for key in spec.columns] for row in spec.rows])
    note_lines = [f"- {_escape(note)}" for note in notes(table)]
    return "\n".join([*lines, "", f"Scale `{spec.scale}`.", "", *note_lines, *_details(table)]) + "\n"


def _rows(table: Table, cells: list[list[str]]) -> list[str]:
    """A line a row; the group's name stands in its first."""
    lines = []
    group = None
    for row, texts in zip(table.spec.rows, cells, strict=True):
        first = f"**{_escape(row.group_label)}**" if row.group != group else ""
        group = row.group
        lines.append(_line([first, _escape(row.label), *texts]))
    return lines


def _details(table: Table) -> list[str]:
    if not has_details(table):
        return []
    columns = compared_columns(table)
    labels = headers(table)
    titles = [_escape(": ".join(part for part in labels[key] if part)) for key in columns]
    cells = [
        [_escape(detail(table.cells[row.id, key], column)) for key, column in columns.items()]
        for row in table.spec.rows
    ]
    return [
        "",
        "### Intervals",
        "",
        "Mean [95% interval by Student's t]; Δ: paired difference to the reference row over equal seeds [95% "
        "interval], with the p of a two-sided paired t test, not corrected for the number of comparisons.",
        "",
        _line(["", "", *titles]),
        _line([":--", ":--", *("--:" for _ in titles)]),
        *_rows(table, cells),
    ]


def _cell(cell: Cell) -> str:
    text = _escape(marked(cell.text, cell))
    return f"**{text}**" if cell.best else text


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _escape(text: str) -> str:
    for character in "\\|*_`<":
        text = text.replace(character, "\\" + character)
    return text
