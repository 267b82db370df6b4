"""A table of kernel times: a row an operation and implementation, a column a pass and length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from rla_exp.errors import UserError
from rla_exp.report.kernel_spec import KernelSpec, Pass
from rla_exp.runs.files import read_json

OURS = "ours"


class Row(NamedTuple):
    """What is measured, and where."""

    device: str
    op: str
    implementation: str
    """A peer's name and version, or ours with the backend."""


class Column(NamedTuple):
    """What it is measured on."""

    run: Pass
    length: int
    """Tokens of a sequence."""
    batch_size: int
    """Sequences."""
    num_heads: int

    @property
    def key(self) -> str:
        """Its name for programs: <pass>@<sequences>x<tokens>x<heads>."""
        return f"{self.run}@{self.batch_size}x{self.length}x{self.num_heads}"


class Quantity(NamedTuple):
    """A number with its spread over the repeats, where it has one."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Measurement:
    """One time, as a file of benchmarks/ has it."""

    row: Row
    column: Column
    ms: Quantity
    """Milliseconds: the median, the 20th and the 80th percentile."""
    tokens_per_s: Quantity
    peak_mib: Quantity | None
    """None where nobody measured it."""


@dataclass(frozen=True)
class KernelTable:
    """The measurements that the table shows, in its order."""

    spec: KernelSpec
    origins: Sequence[Mapping[str, Any]]
    """What each file says of itself, without its rows."""
    measurements: Sequence[Measurement]

    @property
    def columns(self) -> list[Column]:
        """What something was measured on: pass by pass, shorter sequences first."""
        order = list(self.spec.file.passes)
        return sorted({m.column for m in self.measurements}, key=lambda column: (order.index(column.run), *column[1:]))

    @property
    def rows(self) -> list[Row]:
        """Device by device in the order of the operations, ours before others."""
        order: list[str] = list(self.spec.file.ops)

        def place(row: Row) -> tuple[Any, ...]:
            return row.device, order.index(row.op), not row.implementation.startswith(OURS), row.implementation

        return sorted({m.row for m in self.measurements}, key=place)

    def at(self, row: Row, column: Column) -> Measurement | None:
        """A cell's measurement; None where there is none."""
        return next((m for m in self.measurements if (m.row, m.column) == (row, column)), None)


def read_kernel_table(spec: KernelSpec, files: Sequence[Path]) -> KernelTable:
    """The table from files in the form of benchmarks/<gpu>.json.

    Raises UserError where a file is not of that form, or none holds a time that the table shows.
    """
    origins: list[Mapping[str, Any]] = []
    measurements: list[Measurement] = []
    for file in files:
        content = read_json(file) or {}
        try:
            rows = [_measurement(str(content["gpu"]), row) for row in content["rows"] if _is_shown(spec, row)]
        except (KeyError, TypeError) as error:
            raise UserError(f"{file} is not what a benchmark writes: {error!r}") from error
        if rows:
            measurements += rows
            _refuse_doubles(file, measurements)
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
    ms = Quantity(row["ms"], row["ms_p20"], row["ms_p80"])
    tokens = 1000 * row["B"] * row["T"]
    return Measurement(
        row=Row(device, row["op"], implementation),
        column=Column(row["pass"], row["T"], row["B"], row["H"]),
        ms=ms,
        # the longest time is the lowest rate
        tokens_per_s=Quantity(tokens / row["ms"], tokens / row["ms_p80"], tokens / row["ms_p20"]),
        peak_mib=None if row["peak_mib"] is None else Quantity(row["peak_mib"]),
    )


def _refuse_doubles(file: Path, measurements: Sequence[Measurement]) -> None:
    """Raise UserError where two times stand for one cell: nobody could say which is shown."""
    seen: set[tuple[Row, Column]] = set()
    for found in measurements:
        cell = (found.row, found.column)
        if cell in seen:
            raise UserError(f"{file} has {', '.join(found.row)}, {found.column.key} a second time; remove one of them")
        seen.add(cell)
