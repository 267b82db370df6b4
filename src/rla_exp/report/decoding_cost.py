"""What a token costs after ever more tokens: costs.json, costs.csv, figure.png and figure.svg."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from itertools import cycle
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from rla_exp.report.figure import save_figure
from rla_exp.report.number import format_number
from rla_exp.report.style import COLOURS, STYLE
from rla_exp.runs.files import write_atomically, write_json

COLUMNS = ("model", "tokens", "milliseconds", "cache_bytes", "resident_bytes")
_PANELS = {"milliseconds": "CPU time of a token (ms)", "cache_bytes": "carried from token to token"}


def write_decoding_costs(content: Mapping[str, Any], folder: Path) -> None:
    """Write a measurement, {"title", "models": {name: [{"tokens", "milliseconds", ...}]}, ...}, into `folder`.

    Raises:
        RunError: the folder cannot be written.
    """
    write_json(folder / "costs.json", content)
    write_atomically(folder / "costs.csv", _to_csv(content["models"]))
    save_figure(draw_decoding_costs(content), folder)


def draw_decoding_costs(content: Mapping[str, Any]) -> Figure:
    """Time and memory against the number of tokens, a line a model."""
    with mpl.rc_context({**STYLE, "axes.grid.axis": "both", "axes.spines.left": True, "ytick.left": True}):
        figure = Figure(figsize=(8.2, 3.4), dpi=200, layout="constrained")
        FigureCanvasAgg(figure)
        for ax, (key, label) in zip(figure.subplots(1, 2), _PANELS.items(), strict=True):
            for (name, costs), colour in zip(content["models"].items(), cycle(COLOURS), strict=False):
                tokens = [cost["tokens"] for cost in costs]
                ax.plot(tokens, [cost[key] for cost in costs], "o-", color=colour, markersize=3, label=name)
            ax.set_title(label)
            ax.set_xlabel("tokens before it")
            ax.xaxis.set_major_formatter(lambda value, _: f"{value / 1000:g}k" if value else "0")
            ax.margins(x=0.03)
            if key == "cache_bytes":
                # a state that stays where it is, and a cache thousands of times its size
                ax.set_yscale("log", base=2)
                ax.yaxis.set_major_formatter(lambda value, _: format_number(value, "bytes"))
            else:
                ax.set_ylim(bottom=0)
            ax.legend(frameon=False)
        figure.suptitle(content["title"], fontsize=10, fontweight="bold")
    return figure


def _to_csv(models: Mapping[str, Any]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for name, costs in models.items():
        writer.writerows({"model": name, **cost} for cost in costs)
    return text.getvalue()
