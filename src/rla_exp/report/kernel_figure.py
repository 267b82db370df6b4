"""The figure of kernel times: a panel a pass and implementation, a line an operation, time against length."""

from __future__ import annotations

from typing import Any

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullFormatter

from rla_exp.report.kernel_table import KernelTable
from rla_exp.report.style import COLOURS, GREY, STYLE

LOOKS = [*((colour, "-") for colour in COLOURS), (GREY, "--"), ("#000000", ":")]


def draw_kernels(table: KernelTable) -> Figure:
    """Passes below each other, implementations beside each other, both axes logarithmic."""
    ops = [op for op in table.spec.file.ops if any(m.op == op for m in table.measurements)]
    looks: dict[str, tuple[str, Any]] = {op: LOOKS[index % len(LOOKS)] for index, op in enumerate(ops)}
    passes = list(dict.fromkeys(run for run, _ in table.columns))
    sources = list(dict.fromkeys((device, implementation) for device, _, implementation in table.rows))
    size = (1.2 + 3.0 * max(2, len(sources)), 1.5 + 2.3 * len(passes))
    with mpl.rc_context({**STYLE, "axes.grid.axis": "both", "axes.spines.left": True, "ytick.left": True}):
        figure = Figure(figsize=size, dpi=200, layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(len(passes), len(sources), squeeze=False, sharex=True, sharey="row")
        for run, line in zip(passes, axes, strict=True):
            for (device, implementation), ax in zip(sources, line, strict=True):
                for op in ops:
                    times = {
                        m.length: m.values["ms"]
                        for m in table.measurements
                        if (m.device, m.implementation, m.op, m.run) == (device, implementation, op, run)
                    }
                    if times:
                        colour, dashes = looks[op]
                        lengths = sorted(times)
                        ax.plot(
                            lengths,
                            [times[length] for length in lengths],
                            color=colour,
                            linestyle=dashes,
                            marker="o",
                            markersize=3.2,
                            linewidth=1.2,
                        )
                ax.set_xscale("log", base=2)
                ax.set_yscale("log")
                ax.set_xticks(table.spec.at_scale.times.lengths)
                ax.xaxis.set_major_formatter(FuncFormatter(_tokens))
                ax.xaxis.set_minor_formatter(NullFormatter())
                ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            line[0].set_ylabel(f"{table.spec.file.passes[run]}\nms")
        for (device, implementation), ax in zip(sources, axes[0], strict=True):
            ax.set_title(f"{device}\n{implementation}")
        for ax in axes[-1]:
            ax.set_xlabel("tokens")
        labels: dict[str, str] = dict(table.spec.file.ops.items())
        handles = [
            Line2D([], [], color=looks[op][0], linestyle=looks[op][1], marker="o", markersize=3.2, label=labels[op])
            for op in ops
        ]
        legend = figure.legend(
            handles=handles, loc="outside lower center", ncols=3, frameon=False, title=table.spec.at_scale.warning
        )
        legend.get_title().set_color("#b00000")
        figure.suptitle(table.spec.file.title, fontsize=11, fontweight="bold")
    return figure


def _tokens(value: float, _position: int | None) -> str:
    return f"{value / 1024:g}K" if value >= 1024 else f"{value:g}"
