"""The figure of a benchmark: time, throughput and memory against length, a line an implementation of an operation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from rla_exp.bench.markdown import LABELS, PASSES, implementation
from rla_exp.report.style import COLOURS, GREY, STYLE

OP_COLOURS = dict(zip(("rdn", "rla", "gated_delta_net", "linear_attention"), COLOURS, strict=True)) | {
    "delta_net": "#56B4E9",
    "attention": GREY,
}
PEER_LOOKS = (("--", "s"), (":", "^"), ("-.", "D"), ((0, (5, 1, 1, 1, 1, 1)), "v"))
OUR_LOOK = ("-", "o")
WHAT = {"ms": "ms", "tokens": "tokens/s", "mib": "extra memory, MiB"}
Line = tuple[str, str]


def draw_times(content: Mapping[str, Any]) -> Figure | None:
    """A row of panels a pass (a step has no length, so no panel); None where there is nothing to draw."""
    rows = [row for row in content["rows"] if row["pass"] != "step"]
    if not rows:
        return None
    passes = [run for run in PASSES if any(row["pass"] == run for row in rows)]
    whats = [what for what in WHAT if what != "mib" or any(row["peak_mib"] is not None for row in rows)]
    lines = sorted({_line(row, content) for row in rows}, key=lambda line: (list(LABELS).index(line[0]), line[1]))
    looks = _looks(lines)
    with mpl.rc_context({**STYLE, "axes.grid.axis": "both", "axes.spines.left": True, "ytick.left": True}):
        size = (0.6 + 3.3 * len(whats), 1.4 + 2.5 * len(passes) + 0.1 * len(lines))
        figure = Figure(figsize=size, dpi=200, layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(len(passes), len(whats), squeeze=False, sharex=True)
        for run, beside in zip(passes, axes, strict=True):
            for what, ax in zip(whats, beside, strict=True):
                for line in lines:
                    own = [row for row in rows if row["pass"] == run and _line(row, content) == line]
                    _draw_line(ax, own, what, looks[line])
                ax.set_xscale("log", base=2)
                ax.set_yscale("log")
                ax.set_xticks(sorted({row["T"] for row in rows}))
                ax.xaxis.set_major_formatter(FuncFormatter(tokens_label))
                ax.xaxis.set_minor_formatter(NullFormatter())
                ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
                ax.yaxis.set_major_formatter(FuncFormatter(short))
                ax.yaxis.set_minor_formatter(NullFormatter())
                ax.set_ylabel(WHAT[what])
                ax.set_title(PASSES[run])
        for ax in axes[-1]:
            ax.set_xlabel("tokens of a sequence")
        handles = [
            Line2D(
                [],
                [],
                color=looks[line][0],
                linestyle=looks[line][1],
                marker=looks[line][2],
                markersize=3.5,
                linewidth=1.2,
                label=f"{LABELS[line[0]]}: {line[1]}",
            )
            for line in lines
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False, fontsize=8)
        first = rows[0]
        batches = ", ".join(f"{B}x{tokens_label(T, None)}" for T, B in sorted({(row["T"], row["B"]) for row in rows}))
        figure.suptitle(
            f"{content['gpu']}, {first['H']} heads of {first['K']}, {first['dtype']}; sequences x tokens: {batches}",
            fontsize=9.5,
            fontweight="bold",
        )
    return figure


def _line(row: Mapping[str, Any], content: Mapping[str, Any]) -> Line:
    return row["op"], implementation(row, content["backend"])


def _looks(lines: list[Line]) -> dict[Line, tuple[str, Any, str]]:
    """Colour by operation, dashes and marker by implementation."""
    peers = list(dict.fromkeys(name for _, name in lines if not name.startswith("ours")))
    dashes = {name: PEER_LOOKS[index % len(PEER_LOOKS)] for index, name in enumerate(peers)}
    return {(op, name): (OP_COLOURS[op], *dashes.get(name, OUR_LOOK)) for op, name in lines}


def _draw_line(ax: Axes, rows: list[Mapping[str, Any]], what: str, look: tuple[str, Any, str]) -> None:
    rows = sorted((row for row in rows if what != "mib" or row["peak_mib"] is not None), key=lambda row: row["T"])
    if not rows:
        return
    middle, low, high = zip(*(_values(row, what) for row in rows), strict=True)
    below = [mid - least for mid, least in zip(middle, low, strict=True)]
    above = [most - mid for mid, most in zip(middle, high, strict=True)]
    colour, dashes, marker = look
    ax.errorbar(
        [row["T"] for row in rows],
        middle,
        yerr=None if what == "mib" else (below, above),
        color=colour,
        linestyle=dashes,
        marker=marker,
        markersize=3.5,
        linewidth=1.2,
        capsize=2,
    )


def _values(row: Mapping[str, Any], what: str) -> tuple[float, float, float]:
    """The median with its ends, the lower first."""
    if what == "ms":
        return row["ms"], row["ms_p20"], row["ms_p80"]
    if what == "mib":
        return (row["peak_mib"],) * 3
    tokens = row["B"] * row["T"] * 1000
    return tokens / row["ms"], tokens / row["ms_p80"], tokens / row["ms_p20"]


def short(value: float, _position: int | None) -> str:
    """A power of ten in few signs."""
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= unit:
            return f"{value / unit:g}{name}"
    return f"{value:g}"


def tokens_label(value: float, _position: int | None) -> str:
    return f"{value / 1024:g}K" if value >= 1024 else f"{value:g}"
