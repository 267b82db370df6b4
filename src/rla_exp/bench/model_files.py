"""benchmarks/models/<gpu>.json, .md, .png and .svg: training steps of models against the length of their sequences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from rla_exp.bench.figure import short, tokens_label
from rla_exp.bench.markdown import NONE
from rla_exp.bench.write import save_figure, write_content
from rla_exp.report.style import COLOURS, GREY, STYLE

LABELS = {
    "transformer": "Transformer",
    "retnet": "RetNet",
    "mamba2": "Mamba-2",
    "delta_net": "DeltaNet",
    "linear_attention": "linear attention",
    "rla": "RLA",
    "gated_delta_net": "Gated DeltaNet",
    "rdn": "RDN",
}
LOOKS = dict(zip(("rdn", "rla", "gated_delta_net", "linear_attention"), COLOURS, strict=True)) | {
    "delta_net": "#56B4E9",
    "mamba2": "#E69F00",
    "retnet": "#F0E442",
    "transformer": GREY,
}
UNSTEADY = 1.05
"""The 80th percentile of a step's times by the 20th: beyond it, a share says less than it seems to."""
BASELINES = {"rla": "linear_attention", "rdn": "gated_delta_net"}
Row = Mapping[str, Any]


def models_markdown(content: Mapping[str, Any]) -> str:
    """Tables of throughput, of the share of the baseline's, of the card's rate that is used, and of memory."""
    versions = ", ".join(f"{name} {number}" for name, number in content["versions"].items())
    peak = content["peak_tflop_per_s"]
    lines = [
        f"# Training steps on {content['gpu']}",
        "",
        f"{content['date']}, commit {content['commit']}, {versions}. Written by `{content['command']}`.",
        "",
        f"Forward, backward, clipping and AdamW on random tokens, each model in a process of its own: medians of "
        f"{content['steps']} steps after a few to warm up. B sequences of T tokens.",
        "Operations: 3 x those of a forward pass (2 a parameter that multiplies a token, and the token mixer's own).",
    ]
    if content.get("gpus", 1) > 1:
        lines.append(f"{content['gpus']} models at a time, side by side on one host, each on a GPU of its own.")
    if peak is not None:
        lines.append(f"MFU: these operations a second, of the {peak:g} TFLOP/s of the data sheet (dense bfloat16).")
    for size in dict.fromkeys(row["size"] for row in [*content["rows"], *content["failures"]]):
        rows = [row for row in content["rows"] if row["size"] == size]
        if not rows:
            continue
        shown = [("tokens/s", lambda row: f"{row['tokens_per_s']:,.0f}")]
        shown.append(("of its baseline's tokens/s", _beside_baseline(rows)))
        shown.append(("ms a step (20th to 80th percentile)", _spread))
        if peak is not None:
            shown.append(("MFU", lambda row: f"{row['mfu']:.1%}"))
        else:
            shown.append(("TFLOP/s", lambda row: f"{row['tflop_per_s']:.3g}"))
        if any(row["peak_mib"] is not None for row in rows):
            shown.append(("peak memory, MiB", lambda row: f"{row['peak_mib']:,.0f}"))
        how = rows[0]["precision"] + (", blocks and loss compiled" if rows[0]["compile"] else "")
        lines += ["", f"## size={size}, {how}"]
        for title, text in shown:
            table = _table(rows, text)
            lines += ["", f"### {title}", "", *table]
            if any(" * |" in line for line in table):
                how_much = f"more than {UNSTEADY - 1:.0%} (20th to 80th percentile)"
                lines += ["", f"\\* Its steps or its baseline's varied by {how_much}."]
    if content["failures"]:
        lines += ["", "## Failed", ""]
        for row in content["failures"]:
            lines.append(f"- {LABELS[row['model']]}, size={row['size']}, B{row['B']} T{row['T']}: {row['reason']}")
    return "\n".join(lines) + "\n"


def _spread(row: Row) -> str:
    return f"{row['ms']:,.0f} ({row['ms_p20']:,.0f}{NONE}{row['ms_p80']:,.0f})"


def _beside_baseline(rows: list[Row]) -> Any:
    found = {(row["model"], row["T"]): row for row in rows}

    def text(row: Row) -> str:
        baseline = found.get((BASELINES.get(row["model"], ""), row["T"]))
        if baseline is None:
            return NONE
        mark = " *" if any(_is_unsteady(one) for one in (row, baseline)) else ""
        return f"{row['tokens_per_s'] / baseline['tokens_per_s']:.1%}{mark}"

    return text


def _is_unsteady(row: Row) -> bool:
    return bool(row["ms_p80"] > UNSTEADY * row["ms_p20"])


def _table(rows: list[Row], text: Any) -> list[str]:
    columns = list(dict.fromkeys((row["T"], row["B"]) for row in sorted(rows, key=lambda row: row["T"])))
    heads = [f"B{B} T{T}" for T, B in columns]
    lines = ["| " + " | ".join(["", "parameters", *heads]) + " |", "|:--|--:|" + "--:|" * len(heads)]
    for model, label in LABELS.items():
        own = {(row["T"], row["B"]): row for row in rows if row["model"] == model}
        if own:
            cells = [text(own[column]) if column in own else NONE for column in columns]
            size = f"{next(iter(own.values()))['parameters'] / 1e6:,.1f}M"
            lines.append("| " + " | ".join([f"**{label}**", size, *cells]) + " |")
    return lines


def draw_models(content: Mapping[str, Any]) -> Figure | None:
    """Tokens a second and memory against length, a row of panels a size; None where there is nothing to draw."""
    rows: list[Row] = content["rows"]
    sizes = list(dict.fromkeys(row["size"] for row in rows))
    if not sizes:
        return None
    shown = {"tokens_per_s": "tokens/s"}
    if any(row["peak_mib"] is not None for row in rows):
        shown["peak_mib"] = "peak memory, MiB"
    with mpl.rc_context({**STYLE, "axes.grid.axis": "both", "axes.spines.left": True, "ytick.left": True}):
        figure = Figure(figsize=(0.6 + 3.6 * len(shown), 1.2 + 2.6 * len(sizes)), dpi=200, layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(len(sizes), len(shown), squeeze=False)
        for size, beside in zip(sizes, axes, strict=True):
            for (key, label), ax in zip(shown.items(), beside, strict=True):
                for model, name in LABELS.items():
                    own = sorted(
                        (row for row in rows if (row["model"], row["size"]) == (model, size)), key=lambda row: row["T"]
                    )
                    if own:
                        ax.errorbar(
                            [row["T"] for row in own],
                            [row[key] for row in own],
                            yerr=_spread_of_rates(own) if key == "tokens_per_s" else None,
                            color=LOOKS[model],
                            marker="o",
                            markersize=3.5,
                            linewidth=1.2,
                            elinewidth=0.8,
                            capsize=2,
                            label=name,
                        )
                ax.set_xscale("log", base=2)
                ax.set_xticks(sorted({row["T"] for row in rows}))
                ax.xaxis.set_major_formatter(FuncFormatter(tokens_label))
                ax.xaxis.set_minor_formatter(NullFormatter())
                ax.yaxis.set_major_formatter(FuncFormatter(short))
                ax.set_ylim(0, 1.06 * ax.get_ylim()[1])
                ax.set_ylabel(label)
                ax.set_xlabel("tokens of a sequence")
                ax.set_title(f"size={size}")
        found = [zip(*ax.get_legend_handles_labels(), strict=True) for ax in axes.flat]
        # not every size has every model
        handles = {label: handle for pairs in found for handle, label in pairs}
        labels = [label for label in LABELS.values() if label in handles]
        figure.legend(
            [handles[label] for label in labels], labels, loc="outside lower center", ncols=4, frameon=False, fontsize=8
        )
        figure.suptitle(f"Training steps on {content['gpu']}", fontsize=9.5, fontweight="bold")
    return figure


def _spread_of_rates(rows: Sequence[Row]) -> list[list[float]]:
    """How far down and up tokens a second go, from the slower to the faster percentile of a step."""
    tokens = [1000 * row["B"] * row["T"] for row in rows]
    down = [row["tokens_per_s"] - each / row["ms_p80"] for each, row in zip(tokens, rows, strict=True)]
    up = [each / row["ms_p20"] - row["tokens_per_s"] for each, row in zip(tokens, rows, strict=True)]
    return [down, up]


def write_model_benchmark(content: dict[str, Any], folder: Path) -> list[Path]:
    """All files; returns their paths."""
    path = write_content(content, folder)
    table = path.with_suffix(".md")
    table.write_text(models_markdown(content), encoding="utf-8")
    figure = draw_models(content)
    return [path, table, *(save_figure(figure, path) if figure is not None else [])]
