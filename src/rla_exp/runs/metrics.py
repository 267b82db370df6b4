"""metrics.jsonl: one JSON object a logged step, in the order of steps."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rla_exp.errors import RunError
from rla_exp.runs.files import write_atomically

METRICS_FILE = "metrics.jsonl"


def append_metrics(path: Path, step: int, metrics: Mapping[str, float]) -> None:
    """Append a line `{"step": step, **metrics}` in the run folder `path`; values that are not finite become null."""
    line = {"step": step, **{key: value if math.isfinite(value) else None for key, value in metrics.items()}}
    file = path / METRICS_FILE
    try:
        with file.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")
    except OSError as error:
        raise RunError(f"cannot write {file}: {error.strerror or error}") from error


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """All lines of the run folder `path`; a last line cut short by a crash is left out."""
    try:
        lines = (path / METRICS_FILE).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(lines, start=1):
        try:
            rows.append(json.loads(line))
        except ValueError as error:
            if number == len(lines):
                break
            raise RunError(f"{path / METRICS_FILE}, line {number}: {error}") from error
    return rows


def drop_metrics_after(path: Path, step: int) -> None:
    """Keep the lines up to `step`: a run that goes on from there writes the later ones again."""
    rows = [row for row in read_metrics(path) if row["step"] <= step]
    write_atomically(path / METRICS_FILE, "".join(json.dumps(row) + "\n" for row in rows))
