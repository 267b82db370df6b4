"""The files of a table of kernel times: Markdown, CSV, LaTeX and JSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from rla_exp.report.kernel_table import Column, KernelTable, Measurement, Quantity, Row
from rla_exp.report.latex import escape_latex


class Shown(NamedTuple):
    """A quantity as readers see it."""

    title: str
    unit: float
    """What one of it is of the stored quantity."""
    of: Callable[[Measurement], Quantity | None]


SHOWN = (
    Shown("Run time, ms", 1.0, lambda m: m.ms),
    Shown("Throughput, million tokens/s", 1e6, lambda m: m.tokens_per_s),
    Shown("Extra memory, MiB", 1.0, lambda m: m.peak_mib),
)


def shown(table: KernelTable) -> list[Shown]:
    """Those that were measured: a CPU's memory is not."""
    return [quantity for quantity in SHOWN if any(quantity.of(m) is not None for m in table.measurements)]


def kernel_notes(table: KernelTable) -> list[str]:
    """The caption's sentences."""
    spec = table.spec
    warning = [spec.at_scale.warning] if spec.at_scale.warning else []
    value = spec.reported.value(spec.file.reported.value)
    listed = ", ".join(f"{row} {number:g}" for row, number in value.rows.items())
    heads = sorted({column.num_heads for column in table.columns})
    memory = " Extra memory: the most beyond inputs and upstream gradient." if len(shown(table)) == len(SHOWN) else ""
    return [
        *warning,
        f"{spec.file.caption} {spec.at_scale.caption}",
        f"Columns: sequences x tokens of each; {' or '.join(map(str, heads))} heads. Cells are the median (20th to "
        f"80th percentile of the repeats).{memory} Nothing is bold: times of one process on one machine have no spread "
        "over machines.",
        f"Not ours, as reported in {spec.reported.title}, {spec.reported.url}, {value.source}: {value.label} "
        f"({value.unit}): {listed}. {spec.reported.note}",
        *(f"Measured on {o['gpu']}, {o['date']}, commit {o['commit']}: {o['command']}." for o in table.origins),
    ]


def kernel_files(table: KernelTable) -> dict[str, str]:
    """table.md, table.csv, table.tex and cells.json."""
    return {
        "table.md": _markdown(table),
        "table.csv": _csv(table),
        "table.tex": _latex(table),
        "cells.json": json.dumps(_cells(table), indent=1, ensure_ascii=False, allow_nan=False) + "\n",
    }


def _text(measurement: Measurement | None, quantity: Shown) -> str:
    found = None if measurement is None else quantity.of(measurement)
    if found is None:
        return "\N{EN DASH}"
    value, low, high = (None if number is None else _three_digits(number / quantity.unit) for number in found)
    return f"{value}" if low is None else f"{value} ({low}\N{EN DASH}{high})"


def _three_digits(number: float) -> str:
    return f"{number:,.0f}" if number >= 1000 else f"{number:.3g}"


def _lines(table: KernelTable) -> Iterator[tuple[Row, list[Measurement | None]]]:
    for row in table.rows:
        yield row, [table.at(row, column) for column in table.columns]


def title(table: KernelTable, column: Column) -> str:
    """forward, 4 x 8,192 tokens."""
    several = len({other.num_heads for other in table.columns}) > 1
    heads = f", {column.num_heads} heads" if several else ""
    return f"{table.spec.file.passes[column.run]}, {column.batch_size} x {column.length:,} tokens{heads}"


def _names(table: KernelTable, row: Row) -> tuple[str, str]:
    """The operation, and who computes it, with the device where there are several."""
    label = next(label for key, label in table.spec.file.ops.items() if key == row.op)
    several = len({other.device for other in table.rows}) > 1
    return label, f"{row.implementation}, {row.device}" if several else row.implementation


def _markdown(table: KernelTable) -> str:
    spec = table.spec
    titles = [title(table, column) for column in table.columns]
    lines = [f"## {spec.file.title}", ""]
    if spec.at_scale.warning:
        lines += [f"**{spec.at_scale.warning}**", ""]
    for quantity in shown(table):
        lines += [f"### {quantity.title}", ""]
        lines.append("| " + " | ".join(["", "", *titles]) + " |")
        lines.append("| " + " | ".join([":--", ":--", *("--:" for _ in titles)]) + " |")
        for row, cells in _lines(table):
            label, implementation = _names(table, row)
            texts = [_text(cell, quantity) for cell in cells]
            lines.append("| " + " | ".join([f"**{label}**", implementation, *texts]) + " |")
        lines.append("")
    notes = [f"- {note}" for note in kernel_notes(table)]
    return "\n".join([*lines, f"Scale `{spec.scale}`.", "", *notes]) + "\n"


def _values(measurement: Measurement) -> dict[str, float | None]:
    """As numbers for programs."""
    ms, peak = measurement.ms, measurement.peak_mib
    return {
        "ms": ms.value,
        "ms_p20": ms.low,
        "ms_p80": ms.high,
        "peak_mib": None if peak is None else peak.value,
        "tokens_per_s": measurement.tokens_per_s.value,
    }


def _csv(table: KernelTable) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    fields = _values(table.measurements[0]).keys()
    names = [f"{column.key}:{field}" for column in table.columns for field in fields]
    writer.writerow(["device", "op", "implementation", *names])
    for row, cells in _lines(table):
        numbers = [None if cell is None else _values(cell)[field] for cell in cells for field in fields]
        writer.writerow([*row, *numbers])
    return stream.getvalue()


def _latex(table: KernelTable) -> str:
    num_columns = 2 + len(table.columns)
    lines = [
        r"% \usepackage{booktabs,graphicx}",
        r"\begin{table}[t]",
        r"\centering",
        rf"\caption{{{escape_latex(table.spec.file.title)}}}",
        rf"\label{{tab:{table.spec.name}}}",
        r"\resizebox{\linewidth}{!}{%",
        rf"\begin{{tabular}}{{ll{'c' * len(table.columns)}}}",
        r"\toprule",
        " & ".join(["", "", *(escape_latex(title(table, column)) for column in table.columns)]) + r" \\",
    ]
    for quantity in shown(table):
        lines.append(r"\midrule")
        lines.append(rf"\multicolumn{{{num_columns}}}{{l}}{{\textit{{{escape_latex(quantity.title)}}}}} \\")
        for row, cells in _lines(table):
            texts = [*_names(table, row), *(_text(cell, quantity) for cell in cells)]
            lines.append(" & ".join(map(escape_latex, texts)) + r" \\")
    notes = " ".join(escape_latex(note) for note in kernel_notes(table))
    lines += [
        r"\bottomrule",
        r"\end{tabular}}",
        r"\par\smallskip",
        rf"\begin{{minipage}}{{\linewidth}}\footnotesize Scale {table.spec.scale}. {notes}\end{{minipage}}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _cells(table: KernelTable) -> dict[str, Any]:
    """In the form of other tables' cells.json as far as they share it; a cell's origin is its device, not a run."""
    time, *_ = SHOWN
    cells: list[dict[str, Any]] = [
        {
            "group": row.op,
            "row": f"{row.device}/{row.implementation}",
            "column": column.key,
            "text": _text(cell, time),
            "best": False,
            "mark": None,
            "values": None if cell is None else _values(cell),
            "runs": [],
        }
        for row, measured in _lines(table)
        for column, cell in zip(table.columns, measured, strict=True)
    ]
    return {
        "table": table.spec.name,
        "scale": table.spec.scale,
        "title": table.spec.file.title,
        "warning": table.spec.at_scale.warning,
        "notes": kernel_notes(table),
        "mixed": False,
        "columns": {
            column.key: {
                "study": table.spec.file.passes[column.run],
                "label": f"{column.batch_size} x {column.length:,} tokens, ms",
                "kind": "benchmark",
            }
            for column in table.columns
        },
        "rows": [
            {
                "group": row.op,
                "group_label": _names(table, row)[0],
                "row": f"{row.device}/{row.implementation}",
                "label": _names(table, row)[1],
            }
            for row in table.rows
        ],
        "cells": cells,
    }
