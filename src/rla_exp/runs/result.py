"""What a finished run leaves behind: result.json, the only origin of a table's numbers."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rla_exp.errors import RunError
from rla_exp.runs.files import read_json, write_json

RESULT_FILE = "result.json"


@dataclass(frozen=True)
class Result:
    """Numbers of a finished run."""

    metrics: dict[str, float]
    """What repeats exactly on the same machine: losses, accuracies, sizes."""
    timing: dict[str, float]
    """tokens_per_s (median over training steps), seconds (whole run), peak_mib (memory)."""
    provenance: dict[str, Any]
    """What the numbers come from: sources, commit, corpus, device, threads."""


def read_result(path: Path) -> Result | None:
    """The result in the run folder `path`; None while there is none.

    Raises:
        RunError: the file is damaged or incomplete.
    """
    file = path / RESULT_FILE
    content = read_json(file)
    if content is None:
        return None
    missing = [key for key in ("metrics", "timing", "provenance") if not isinstance(content.get(key), dict)]
    if missing:
        raise RunError(f"{file} lacks {', '.join(missing)}; delete it to have the run finished again")
    return Result(content["metrics"], content["timing"], content["provenance"])


def write_result(path: Path, result: Result) -> None:
    """Write result.json into the run folder `path`, atomically.

    Raises:
        ValueError: a number is not finite; it must never reach a table.
    """
    for name, value in {**result.metrics, **result.timing}.items():
        if not math.isfinite(value):
            raise ValueError(f"{name} is {value}, a result holds finite numbers only")
    write_json(path / RESULT_FILE, asdict(result))
