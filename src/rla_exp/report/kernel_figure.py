"""The figure of kernel times: a column of panels an implementation, a line an operation, all against length."""

from __future__ import annotations

from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullFormatter

from rla_exp.report.kernel_formats import Shown, shown
from rla_exp.report.kernel_table import KernelTable, Measurement
from rla_exp.report.style import COLOURS, GREY, STYLE, label_log_axis

LOOKS = [*((colour, "-") for colour in COLOURS), (GREY, "--"), ("#000000", ":")]


def draw_kernels(table: KernelTable) -> Figure:
    """For each pass run time, throughput and memory below each other; both axes logarithmic."""
    labels: dict[str, str] = dict(table.spec.file.ops.items())
    ops = [op for op in labels if any(m.row.op == op for m in table.measurements)]
    looks: dict[str, tuple[str, Any]] = {op: LOOKS[index % len(LOOKS)] for index, op in enumerate(ops)}
    panels = [
        (run, quantity)
        for run in dict.fromkeys(column.run for column in table.columns)
        for quantity in shown(table)
        if any(m.column.run == run and quantity.of(m) is not None for m in table.measurements)
    ]
    sources = list(dict.fromkeys((row.device, row.implementation) for row in table.rows))
    size = (1.2 + 3.0 * max(2, len(sources)), 1.5 + 1.9 * len(panels))
    with mpl.rc_context({**STYLE, "axes.grid.axis": "both", "axes.spines.left": True, "ytick.left": True}):
        figure = Figure(figsize=size, dpi=200, layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(len(panels), len(sources), squeeze=False, sharex=True, sharey="row")
        for (run, quantity), line in zip(panels, axes, strict=True):
            for source, ax in zip(sources, line, strict=True):
                here = [m for m in table.measurements if (m.row.device, m.row.implementation) == source]
                own = [m for m in here if m.column.run == run]
                _draw_panel(ax, own, quantity, looks)
            line[0].set_ylabel(f"{table.spec.file.passes[run]}\n{quantity.title.lower().replace('mib', 'MiB')}")
        for ax in axes.flat:
            ax.set_xscale("log", base=2)
            ax.set_yscale("log")
            ax.set_xticks(sorted({column.length for column in table.columns}))
            ax.xaxis.set_major_formatter(FuncFormatter(lambda length, _: _ticks(table, length)))
            ax.xaxis.set_minor_formatter(NullFormatter())
        for line in axes:
            label_log_axis(line[0])
        for (device, implementation), ax in zip(sources, axes[0], strict=True):
            ax.set_title(f"{device}\n{implementation}")
        for ax in axes[-1]:
            ax.set_xlabel("sequences x tokens of each")
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


def _draw_panel(ax: Axes, own: list[Measurement], quantity: Shown, looks: dict[str, tuple[str, Any]]) -> None:
    for op, (colour, dashes) in looks.items():
        found = {m.column: quantity.of(m) for m in own if m.row.op == op}
        points = sorted((column.length, value.value / quantity.unit) for column, value in found.items() if value)
        if points:
            lengths, values = zip(*points, strict=True)
            ax.plot(lengths, values, color=colour, linestyle=dashes, marker="o", markersize=3.2, linewidth=1.2)


def _ticks(table: KernelTable, length: float) -> str:
    """4x8K: as many sequences as were measured of this length."""
    tokens = f"{length / 1024:g}K" if length >= 1024 else f"{length:g}"
    batches = sorted({column.batch_size for column in table.columns if column.length == length})
    return f"{'/'.join(map(str, batches))}x{tokens}"
