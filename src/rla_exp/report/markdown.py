"""table.md: a GitHub table with its caption below."""

from __future__ import annotations

from rla_exp.report.caption import headers, marked, notes
from rla_exp.report.table import Cell, Table


def to_markdown(table: Table) -> str:
    """The whole file: heading, table, one line a note."""
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
    group = None
    for row in spec.rows:
        first = f"**{_escape(row.group_label)}**" if row.group != group else ""
        group = row.group
        cells = [_cell(table.cells[row.id, key]) for key in spec.columns]
        lines.append(_line([first, _escape(row.label), *cells]))
    note_lines = [f"- {_escape(note)}" for note in notes(table)]
    return "\n".join([*lines, "", f"Scale `{spec.scale}`.", "", *note_lines]) + "\n"


def _cell(cell: Cell) -> str:
    text = _escape(marked(cell.text, cell))
    return f"**{text}**" if cell.best else text


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _escape(text: str) -> str:
    for character in "\\|*_`<":
        text = text.replace(character, "\\" + character)
    return text
