"""The measured times as tables for a reader."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rla_exp.bench.costs import floor_ms
from rla_exp.bench.limits import Limits

LABELS = {
    "linear_attention": "linear attention",
    "delta_net": "DeltaNet",
    "gated_delta_net": "Gated DeltaNet",
    "rla": "RLA",
    "rdn": "RDN",
    "attention": "softmax attention",
}
PASSES = {"fwd": "Forward", "fwd+bwd": "Forward + backward", "step": "Step"}
NONE = "\N{EN DASH}"
Row = Mapping[str, Any]


def implementation(row: Row, backend: str) -> str:
    """Who computed a row."""
    return row["peer"] or f"ours ({backend})"


def to_markdown(content: Mapping[str, Any]) -> str:
    """Tables of times, of memory and of what failed."""
    versions = ", ".join(f"{name} {number}" for name, number in content["versions"].items())
    lines = [
        f"# Run times on {content['gpu']}",
        "",
        f"{content['date']}, commit {content['commit']}, {versions}. Written by `{content['command']}`.",
        "",
        f"{_sizes(content)}. B sequences of T tokens.",
        "Medians in ms (20th to 80th percentile of the repeats), on a GPU each repeat with a cold cache.",
        "Forward: without gradients. Step: in place, on a GPU as a CUDA graph. Memory: the most beyond inputs and",
        "upstream gradient, results included, in MiB.",
    ]
    limits = None if content["limits"] is None else Limits(**content["limits"])
    if limits is not None:
        lines += [
            "",
            f"Measured in the same run: a copy moves {limits.copy_gb_per_s:,.3g} GB/s (read and written), a product of",
            f"large matrices does {limits.matmul_tflop_per_s:,.3g} TFLOP/s.",
        ]
    floor = _floor(limits) if limits is not None and content["backend"] == "triton" else None
    if floor is not None:
        lines += [
            "Floor: the least time of our kernels for uncut sequences at these two limits, one kernel after the other",
            "(docs/kernels.md; long sequences of few heads are cut, and take more); of a step, its states read and",
            "written once.",
        ]
    for run, title in PASSES.items():
        rows = [row for row in content["rows"] if row["pass"] == run]
        if rows:
            lines += ["", f"## {title}", "", *_table(rows, content["backend"], _time, floor)]
        if any(row["peak_mib"] is not None for row in rows) and run != "step":
            lines += ["", f"### {title}: memory", "", *_table(rows, content["backend"], _memory, None)]
    if content["failures"]:
        lines += ["", "## Failed", ""]
        for row in content["failures"]:
            what = f"{LABELS[row['op']]}, {implementation(row, content['backend'])}, {row['pass']}"
            lines.append(f"- {what}, {_shape(row)}: {row['reason']}")
    return "\n".join(lines) + "\n"


def _table(
    rows: Sequence[Row], backend: str, text: Callable[[Row], str], floor: Callable[[Row], float] | None
) -> list[str]:
    columns = list(dict.fromkeys(_shape(row) for row in rows))
    columns.sort(key=lambda name: next((row["T"], row["B"]) for row in rows if _shape(row) == name))
    lines = ["| " + " | ".join(["", "", *columns]) + " |", "|:--|:--|" + "--:|" * len(columns)]
    for op, label in LABELS.items():
        of_op = [row for row in rows if row["op"] == op]
        for name in dict.fromkeys(implementation(row, backend) for row in of_op):
            own = {_shape(row): row for row in of_op if implementation(row, backend) == name}
            cells = [text(own[column]) if column in own else NONE for column in columns]
            lines.append("| " + " | ".join([f"**{label}**", name, *cells]) + " |")
        ours = {_shape(row): row for row in of_op if row["peer"] is None}
        if floor is not None and ours:
            cells = [_beside_floor(ours[column], floor) if column in ours else NONE for column in columns]
            lines.append("| " + " | ".join(["", "floor (ours is so many times it)", *cells]) + " |")
    return lines


def _shape(row: Row) -> str:
    return f"B{row['B']}" if row["pass"] == "step" else f"B{row['B']} T{row['T']}"


def _sizes(content: Mapping[str, Any]) -> str:
    rows = [*content["rows"], *content["failures"]]
    found = dict.fromkeys(f"{row['H']} heads, K = {row['K']}, V = {row['V']}, {row['dtype']}" for row in rows)
    return "; ".join(found)


def _time(row: Row) -> str:
    return f"{row['ms']:.3g} ({row['ms_p20']:.3g}{NONE}{row['ms_p80']:.3g})"


def _memory(row: Row) -> str:
    return NONE if row["peak_mib"] is None else f"{row['peak_mib']:,.0f}"


def _floor(limits: Limits) -> Callable[[Row], float]:
    return lambda row: floor_ms(
        row["op"],
        row["pass"],
        row["B"],
        row["T"],
        row["H"],
        row["K"],
        row["V"],
        row["dtype"],
        limits,
        in_one=row.get("in_one", ()),
    )


def _beside_floor(row: Row, floor: Callable[[Row], float]) -> str:
    least = floor(row)
    return f"{least:.3g} ({row['ms'] / least:.2f} times)"
