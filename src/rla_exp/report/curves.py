"""The figure of curves: a panel a group and trace, a colour a row, each seed a line, a cross where a run diverged."""

from __future__ import annotations

from itertools import cycle, groupby
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from rla_exp.report.columns import TraceColumn
from rla_exp.report.spec import Row
from rla_exp.report.style import COLOURS, GREY, STYLE, label_log_axis
from rla_exp.report.table import Table
from rla_exp.report.traces import trace

CURVE: dict[str, Any] = {"linewidth": 1.1, "alpha": 0.8}
DIVERGED: dict[str, Any] = {"marker": "x", "markersize": 7, "markeredgewidth": 1.8, "linestyle": ""}
# beside the colours, for readers who do not see them
DASHES = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2)))


def draw_curves(table: Table) -> Figure:
    """Groups below each other, the trace columns that ask for a panel beside each other; steps along the bottom."""
    spec = table.spec
    panels = {key: column for key, column in spec.figure_columns.items() if isinstance(column, TraceColumn)}
    groups = [list(rows) for _, rows in groupby(spec.rows, key=lambda row: row.group)]
    style = dict(zip(_row_keys(table), cycle(zip(COLOURS, DASHES, strict=True)), strict=False))
    size = (1.0 + 2.9 * len(panels), 1.3 + 2.1 * len(groups))
    with mpl.rc_context({**STYLE, "axes.grid.axis": "both", "axes.spines.left": True, "ytick.left": True}):
        figure = Figure(figsize=size, dpi=200, layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(len(groups), len(panels), squeeze=False, sharex=True, sharey="col")
        for rows, line in zip(groups, axes, strict=True):
            for (key, column), ax in zip(panels.items(), line, strict=True):
                _draw_panel(ax, table, key, column, rows, style)
            line[0].set_ylabel(rows[0].group_label, fontsize=10, fontweight="bold")
        # once every panel of a column is drawn: they share their axis
        for ax in axes.flat:
            if ax.get_yscale() == "log":
                label_log_axis(ax)
        for column, ax in zip(panels.values(), axes[0], strict=True):
            ax.set_title(f"{spec.studies[column.study].label}\n{column.label}")
        for ax in axes[-1]:
            ax.set_xlabel("step")
        _add_words(figure, table, style)
    return figure


def _row_keys(table: Table) -> list[str]:
    return list(dict.fromkeys(row.key for row in table.spec.rows))


def _draw_panel(
    ax: Axes, table: Table, key: str, column: TraceColumn, rows: list[Row], style: dict[str, tuple[str, Any]]
) -> None:
    for row in rows:
        colour, dashes = style[row.key]
        for run in table.cells[row.id, key].runs:
            points = trace(run.lines, column)
            if points and run.state != "missing":
                steps, values = zip(*points, strict=True)
                ax.plot(steps, values, color=colour, linestyle=dashes, **CURVE)
                if run.diverged:
                    ax.plot(steps[-1], values[-1], color=colour, **DIVERGED)
    if column.log:
        ax.set_yscale("log")
    if column.limits is not None:
        ax.set_ylim(*column.limits)


def _add_words(figure: Figure, table: Table, style: dict[str, tuple[str, Any]]) -> None:
    labels = {row.key: row.label for row in table.spec.rows}
    handles = [
        Line2D([], [], color=colour, linestyle=dashes, label=labels[key]) for key, (colour, dashes) in style.items()
    ]
    diverged = sum(run.diverged for run in table.outcomes)
    name = "diverged" if diverged else "diverged (none did)"
    handles.append(Line2D([], [], color=GREY, label=name, **DIVERGED))
    legend = figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=min(5, len(handles)),
        frameon=False,
        title=table.spec.warning,
        handlelength=2.8,
    )
    legend.get_title().set_color("#b00000")
    figure.suptitle(table.spec.title, fontsize=11, fontweight="bold")
