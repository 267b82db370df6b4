"""The figure of dots: a panel a group and metric, a line a row, each seed a dot beside mean ± sd."""

from __future__ import annotations

from itertools import cycle, groupby
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke

from rla_exp.report.caption import headers
from rla_exp.report.columns import TraceColumn
from rla_exp.report.spec import Row
from rla_exp.report.style import COLOURS, GREY, STYLE
from rla_exp.report.table import Cell, Table

MIN_WIDTH = 6.7
"""Inches."""
ROW_HEIGHT = 0.27
"""Inches."""
SEED: dict[str, Any] = {"marker": "o", "linestyle": "", "markersize": 3.4, "alpha": 0.6, "markeredgewidth": 0}
MEAN: dict[str, Any] = {"fmt": "D", "markersize": 3.8, "elinewidth": 1.4, "capsize": 2.6, "capthick": 1.1}
REFERENCE: dict[str, Any] = {"linewidth": 0.9, "linestyle": (0, (4, 3)), "alpha": 0.8}
NOTE: dict[str, Any] = {
    "fontsize": 7,
    "color": "#666666",
    "fontstyle": "italic",
    # readable over the reference line
    "path_effects": [withStroke(linewidth=2.5, foreground="white")],
}


def draw_dots(table: Table) -> Figure:
    """Groups below each other, the columns that ask for a panel beside each other."""
    spec = table.spec
    panels = list(spec.figure_columns)
    groups = [list(rows) for _, rows in groupby(spec.rows, key=lambda row: row.group)]
    heights = [len(rows) + 1.0 for rows in groups]
    # not narrower than the title and the legend
    size = (max(MIN_WIDTH, 1.5 + 2.6 * len(panels)), 1.6 + ROW_HEIGHT * sum(heights))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=size, dpi=200, layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(
            len(groups), len(panels), squeeze=False, sharex="col", sharey="row", height_ratios=heights
        )
        for rows, line, colour in zip(groups, axes, cycle(COLOURS), strict=False):
            for key, ax in zip(panels, line, strict=True):
                _draw_panel(ax, table, key, rows, colour)
            line[0].set_yticks(range(len(rows)), [row.label for row in rows])
            _name_group(line[0], rows[0].group_label, colour)
        for rows, line in zip(groups, axes, strict=True):
            for key, ax in zip(panels, line, strict=True):
                for position, row in enumerate(rows):
                    _note_gap(ax, table.cells[row.id, key], position)
        labels = headers(table)
        for key, ax in zip(panels, axes[0], strict=True):
            ax.set_title("\n".join(part for part in labels[key] if part))
        _add_words(figure, table)
    return figure


def _draw_panel(ax: Axes, table: Table, key: str, rows: list[Row], colour: str) -> None:
    column = table.spec.figure_columns[key]
    for position, row in enumerate(rows):
        if position % 2 == 0:
            ax.axhspan(position - 0.5, position + 0.5, color="#f5f5f5", linewidth=0, zorder=0)
        cell = table.cells[row.id, key]
        if cell.summary is None:
            continue
        seeds = list(cell.values.values())
        ax.plot(seeds, [position - 0.22] * len(seeds), color=colour, zorder=3, **SEED)
        ax.errorbar(cell.summary.mean, position + 0.12, xerr=cell.summary.sd, color=colour, zorder=4, **MEAN)
        if row.key == table.spec.reference:
            ax.axvline(cell.summary.mean, color=colour, zorder=1, **REFERENCE)
    if isinstance(column, TraceColumn) and column.log:
        ax.set_xscale("log")
    if column.limits is not None:
        low, high = column.limits
        ax.set_xlim(low - 0.03 * (high - low), high + 0.03 * (high - low))
    else:
        ax.margins(x=0.1)
    ax.set_ylim(len(rows) - 0.5, -0.5)


def _name_group(ax: Axes, label: str, colour: str) -> None:
    """Above the row labels."""
    ax.annotate(
        label,
        (0, 1),
        xytext=(-6, 5),
        xycoords="axes fraction",
        textcoords="offset points",
        ha="right",
        color=colour,
        fontsize=10,
        fontweight="bold",
    )


def _note_gap(ax: Axes, cell: Cell, position: int) -> None:
    """Say in words why dots are lacking, on that side of them that has more room."""
    words = cell.gaps if cell.runs else "not run"
    if not words:
        return
    if cell.summary is None:
        ax.annotate(words, (0.5, position), xycoords=("axes fraction", "data"), ha="center", va="center", **NOTE)
        return
    spread = cell.summary.sd or 0.0
    ends = (min(cell.summary.min, cell.summary.mean - spread), max(cell.summary.max, cell.summary.mean + spread))
    low, high = ax.get_xlim()
    on_left = ends[0] - low > high - ends[1]
    ax.annotate(
        words,
        (ends[0] if on_left else ends[1], position),
        xytext=(-7 if on_left else 7, 0),
        textcoords="offset points",
        ha="right" if on_left else "left",
        va="center",
        **NOTE,
    )


def _add_words(figure: Figure, table: Table) -> None:
    spec = table.spec
    reference = next((row.label for row in spec.rows if row.key == spec.reference), None)
    handles = [
        Line2D([], [], color=GREY, label="one seed", **SEED),
        Line2D([], [], color=GREY, marker="D", markersize=MEAN["markersize"], label="mean ± sample sd"),
    ]
    if reference is not None:
        handles.append(Line2D([], [], color=GREY, label=f"mean of '{reference}'", **REFERENCE))
    legend = figure.legend(
        handles=handles, loc="outside lower center", ncols=len(handles), frameon=False, title=spec.warning
    )
    legend.get_title().set_color("#b00000")
    figure.suptitle(spec.title, fontsize=11, fontweight="bold")
