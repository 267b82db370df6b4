"""How every figure looks."""

from __future__ import annotations

import math
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogFormatterMathtext, LogLocator, MaxNLocator, NullFormatter

STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.edgecolor": "#999999",
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.grid.axis": "x",
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.6,
    "xtick.color": "#444444",
    "ytick.left": False,
    # with no date in it, the same table gives the same bytes
    "svg.hashsalt": "rla_exp",
}
# of Okabe and Ito: told apart by readers who see few colours, and in grey
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")
GREY = "#777777"

# decades of a logarithmic axis below which 1, 2 and 5 are too few ticks, and above which they are too many
FEW_DECADES, MANY_DECADES = 1.0, 3.0


def label_log_axis(ax: Axes) -> None:
    """Ticks of a logarithmic y axis by what it spans: even steps, then 1, 2, 5, 10, then powers of ten."""
    low, high = ax.get_ylim()
    decades = math.log10(high / low)
    if decades > MANY_DECADES:
        ax.yaxis.set_major_locator(LogLocator(numticks=7))
        ax.yaxis.set_major_formatter(LogFormatterMathtext())
    else:
        few = decades < FEW_DECADES
        ax.yaxis.set_major_locator(MaxNLocator(5) if few else LogLocator(subs=(1.0, 2.0, 5.0), numticks=12))
        # 0.5, 2, 30 rather than powers with factors
        ax.yaxis.set_major_formatter(FuncFormatter(_plain))
    ax.yaxis.set_minor_formatter(NullFormatter())


def _plain(value: float, _position: int | None) -> str:
    return f"{value:g}"
