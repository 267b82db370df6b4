"""The table on a terminal, while it fills up and when it is done."""

from __future__ import annotations

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table as RichTable
from rich.text import Text

from rla_exp.report.caption import MARKS, headers, marked, notes
from rla_exp.report.columns import AnyColumn, ConstantColumn, CountColumn, LearningRateColumn, ReportedColumn
from rla_exp.report.number import format_number
from rla_exp.report.table import Cell, Table

UNCHANGING = ConstantColumn | LearningRateColumn | ReportedColumn


def render_rich(table: Table, *, final: bool = False) -> RenderableType:
    """The table for rich.

    While it fills up: one line a row, means so far, dim where runs are missing; narrow enough for 100 columns.
    `final`: every cell in full, and the caption below.
    """
    spec = table.spec
    counts = f"{table.count('done')} of {len(table.outcomes)} runs done, {table.count('failed')} failed"
    hint = "" if final else "; means so far, dim where runs are missing"
    view = RichTable(
        title=spec.title,
        caption=f"scale {spec.scale}: {counts}{hint}",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1),
    )
    view.add_column("", no_wrap=True)
    # what never changes is no news
    shown = [key for key, column in spec.columns.items() if final or not isinstance(column, UNCHANGING)]
    for study, label in (headers(table)[key] for key in shown):
        view.add_column(Text(f"{study}\n{label}" if study else f"\n{label}"), justify="right", overflow="fold")
    for index, row in enumerate(spec.rows):
        if index == 0 or spec.rows[index - 1].group != row.group:
            view.add_row(Text(row.group_label, style="bold"))
        ends_group = index + 1 == len(spec.rows) or spec.rows[index + 1].group != row.group
        cells = [table.cells[row.id, key] for key in shown]
        texts = [_full(cell) if final else _short(cell, spec.columns[cell.column]) for cell in cells]
        view.add_row(Text(f" {row.label}"), *texts, end_section=ends_group)
    if final:
        return Group(view, *(Text(note) for note in notes(table)))
    return Group(Text(spec.warning, style="yellow"), view) if spec.warning else view


def _full(cell: Cell) -> Text:
    style = "bold" if cell.best else "" if cell.number else "dim"
    # the gaps on a line of their own, so that columns stay narrow
    lines = [marked(cell.number, cell), cell.gaps] if cell.number else [cell.text]
    return Text("\n".join(line for line in lines if line), style=style)


def _short(cell: Cell, column: AnyColumn) -> Text:
    if not cell.runs or isinstance(column, UNCHANGING):
        return Text(cell.text, style="dim")
    if cell.summary is None:
        return Text("failed", style="red") if cell.count("failed") else Text("missing", style="dim")
    if isinstance(column, CountColumn):
        return Text(cell.number.replace(" of ", "/"), style="dim" if cell.num_missing else "")
    text = format_number(cell.summary.mean, column.format) + MARKS[cell.mark]
    return Text(text, style="bold" if cell.best else "dim" if cell.num_missing else "")
