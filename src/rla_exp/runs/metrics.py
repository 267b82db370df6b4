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
    """All lines of the run folder `path`; a last line cut short by a crash is left out.

    Raises:
        RunError: the file cannot be read, or a line is no JSON object with a step.
    """
    file = path / METRICS_FILE
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise RunError(f"cannot read {file}: {error}; delete the run's folder to start over") from error
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
        except ValueError as error:
            if number == len(lines):
                break
            raise RunError(f"{file}, line {number}: {error}; delete the line") from error
        if not isinstance(row, dict) or not isinstance(row.get("step"), int):
            raise RunError(f"{file}, line {number}: there is no step; delete the line")
        rows.append(row)
    return rows


def drop_metrics_after(path: Path, step: int) -> None:
    """Keep the lines up to `step`: a run that goes on from there writes the later ones again."""
    rows = [row for row in read_metrics(path) if row["step"] <= step]
    write_atomically(path / METRICS_FILE, "".join(json.dumps(row) + "\n" for row in rows))
