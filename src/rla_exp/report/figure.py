"""figure.png and figure.svg."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from rla_exp.report.curves import draw_curves
from rla_exp.report.dots import draw_dots
from rla_exp.report.style import STYLE
from rla_exp.report.table import Table


def draw_figure(table: Table) -> Figure:
    """The figure that the table's description asks for."""
    return draw_curves(table) if table.spec.figure == "curves" else draw_dots(table)


def save_figure(figure: Figure, folder: Path) -> None:
    """Write figure.png and figure.svg, without dates or versions in them."""
    with mpl.rc_context(STYLE):
        figure.savefig(folder / "figure.png", metadata={"Software": None})
        figure.savefig(folder / "figure.svg", metadata={"Date": None})
