"""A table of kernel times: a row an operation and implementation, a column a pass and length."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rla_exp.errors import UserError
from rla_exp.report.kernel_spec import KernelSpec, Pass
from rla_exp.report.latex import escape_latex
from rla_exp.runs.files import read_json

OURS = "ours"
FIELDS = ("ms", "ms_p20", "ms_p80", "peak_mib", "tokens_per_s")


@dataclass(frozen=True)
class Measurement:
    """One time, as a file of benchmarks/ has it."""

    device: str
    op: str
    implementation: str
    """A peer's name and version, or ours with the backend."""
    run: str
    """The pass: fwd, fwd+bwd or step."""
    length: int
    values: Mapping[str, float | None]
    """ms (median), ms_p20, ms_p80, peak_mib (None where nobody measured it), tokens_per_s."""


@dataclass(frozen=True)
class KernelTable:
    """The measurements that the table shows, in its order."""

    spec: KernelSpec
    origins: Sequence[Mapping[str, Any]]
    """What each file says of itself, without its rows."""
    measurements: Sequence[Measurement]

    @property
    def columns(self) -> list[tuple[Pass, int]]:
        """Passes and lengths that something was measured for."""
        found = {(m.run, m.length) for m in self.measurements}
        lengths = self.spec.at_scale.times.lengths
        return [(run, length) for run in self.spec.file.passes for length in lengths if (run, length) in found]

    @property
    def rows(self) -> list[tuple[str, str, str]]:
        """Device, operation and implementation."""
        order: list[str] = list(self.spec.file.ops)
        found = dict.fromkeys((m.device, m.op, m.implementation) for m in self.measurements)
        return sorted(found, key=lambda row: (row[0], order.index(row[1]), not row[2].startswith(OURS), row[2]))

    def at(self, row: tuple[str, str, str], column: tuple[str, int]) -> Measurement | None:
        """A cell's measurement; None where there is none."""
        found = [
            m for m in self.measurements if (m.device, m.op, m.implementation) == row and (m.run, m.length) == column
        ]
        return found[0] if found else None


def read_kernel_table(spec: KernelSpec, files: Sequence[Path]) -> KernelTable:
    """The table from files in the form of benchmarks/<gpu>.json.

    Raises UserError where a file is not of that form, or none holds a time that the table shows.
    """
    origins, measurements = [], []
    for file in files:
        content = read_json(file) or {}
        try:
            rows = [_measurement(str(content["gpu"]), row) for row in content["rows"] if _is_shown(spec, row)]
        except (KeyError, TypeError) as error:
            raise UserError(f"{file} is not what a benchmark writes: {error!r}") from error
        if rows:
            measurements += rows
            origins.append({key: value for key, value in content.items() if key != "rows"})
    if not measurements:
        where = ", ".join(str(file) for file in files) or "benchmarks/ is empty"
        raise UserError(
            f"no times for table {spec.name} at scale {spec.scale} ({where}); `make bench` on a GPU takes them"
        )
    return KernelTable(spec, origins, measurements)


def _is_shown(spec: KernelSpec, row: Mapping[str, Any]) -> bool:
    times = spec.at_scale.times
    shape = (times.head_dim, times.head_dim)
    fits = row["op"] in spec.file.ops and row["pass"] in spec.file.passes and row["T"] in times.lengths
    return fits and (row["K"], row["V"]) == shape and (times.source == "cpu" or row["dtype"] == times.dtype)


def _measurement(device: str, row: Mapping[str, Any]) -> Measurement:
    backend = row.get("backend")
    implementation = row["peer"] or (f"{OURS}, {backend}" if backend else OURS)
    values = {key: row[key] for key in ("ms", "ms_p20", "ms_p80", "peak_mib")}
    tokens_per_s = row["B"] * row["T"] / row["ms"] * 1000
    return Measurement(
        device, row["op"], implementation, row["pass"], row["T"], {**values, "tokens_per_s": tokens_per_s}
    )


def kernel_notes(table: KernelTable) -> list[str]:
    """The caption's sentences."""
    spec = table.spec
    warning = [spec.at_scale.warning] if spec.at_scale.warning else []
    value = spec.reported.value(spec.file.reported.value)
    listed = ", ".join(f"{row} {number:g}" for row, number in value.rows.items())
    return [
        *warning,
        f"{spec.file.caption} {spec.at_scale.caption}",
        "Cells are the median in milliseconds (20th to 80th percentile of the repeats). Nothing is bold: times of one "
        "process on one machine have no spread over machines.",
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


def _text(measurement: Measurement | None) -> str:
    if measurement is None:
        return "\N{EN DASH}"
    ms, low, high = (measurement.values[key] or 0.0 for key in ("ms", "ms_p20", "ms_p80"))
    return f"{ms:.3g} ({low:.3g}\N{EN DASH}{high:.3g})"


def _lines(table: KernelTable) -> Iterator[tuple[tuple[str, str, str], list[Measurement | None]]]:
    for row in table.rows:
        yield row, [table.at(row, column) for column in table.columns]


def _titles(table: KernelTable) -> list[str]:
    return [f"{table.spec.file.passes[run]}, {length:,} tokens" for run, length in table.columns]


def _label(table: KernelTable, op: str) -> str:
    return next(label for key, label in table.spec.file.ops.items() if key == op)


def _markdown(table: KernelTable) -> str:
    spec = table.spec
    titles = _titles(table)
    lines = [f"## {spec.file.title}", ""]
    if spec.at_scale.warning:
        lines += [f"**{spec.at_scale.warning}**", ""]
    lines.append("| " + " | ".join(["", "", *titles]) + " |")
    lines.append("| " + " | ".join([":--", ":--", *("--:" for _ in titles)]) + " |")
    for (_, op, implementation), cells in _lines(table):
        lines.append("| " + " | ".join([f"**{_label(table, op)}**", implementation, *map(_text, cells)]) + " |")
    notes = [f"- {note}" for note in kernel_notes(table)]
    return "\n".join([*lines, "", f"Scale `{spec.scale}`.", "", *notes]) + "\n"


def _csv(table: KernelTable) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    names = [f"{run}@{length}:{field}" for run, length in table.columns for field in FIELDS]
    writer.writerow(["device", "op", "implementation", *names])
    for row, cells in _lines(table):
        writer.writerow([*row, *(None if cell is None else cell.values[field] for cell in cells for field in FIELDS)])
    return stream.getvalue()


def _latex(table: KernelTable) -> str:
    lines = [
        r"% \usepackage{booktabs,graphicx}",
        r"\begin{table}[t]",
        r"\centering",
        rf"\caption{{{escape_latex(table.spec.file.title)}}}",
        rf"\label{{tab:{table.spec.name}}}",
        r"\resizebox{\linewidth}{!}{%",
        rf"\begin{{tabular}}{{ll{'c' * len(table.columns)}}}",
        r"\toprule",
        " & ".join(["", "", *map(escape_latex, _titles(table))]) + r" \\",
        r"\midrule",
    ]
    for (_, op, implementation), cells in _lines(table):
        texts = [_label(table, op), implementation, *map(_text, cells)]
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
    cells: list[dict[str, Any]] = [
        {
            "group": op,
            "row": f"{device}/{implementation}",
            "column": f"{run}@{length}",
            "text": _text(cell),
            "best": False,
            "mark": None,
            "values": None if cell is None else dict(cell.values),
            "runs": [],
        }
        for (device, op, implementation), measured in _lines(table)
        for (run, length), cell in zip(table.columns, measured, strict=True)
    ]
    return {
        "table": table.spec.name,
        "scale": table.spec.scale,
        "title": table.spec.file.title,
        "warning": table.spec.at_scale.warning,
        "notes": kernel_notes(table),
        "mixed": False,
        "columns": {
            f"{run}@{length}": {
                "study": table.spec.file.passes[run],
                "label": f"{length:,} tokens",
                "kind": "benchmark",
            }
            for run, length in table.columns
        },
        "rows": [
            {
                "group": op,
                "group_label": _label(table, op),
                "row": f"{device}/{implementation}",
                "label": implementation,
            }
            for device, op, implementation in table.rows
        ],
        "cells": cells,
    }
