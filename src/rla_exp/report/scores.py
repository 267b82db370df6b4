"""Scores of evaluation suites, as `rla_exp.eval` leaves them in a run's folder: evaluations/<suite>.json."""

from __future__ import annotations

import math
from pathlib import Path

from rla_exp.errors import RunError
from rla_exp.runs.files import read_json

EVALUATIONS_FOLDER = "evaluations"


def read_scores(run: Path, suite: str) -> dict[str, float] | None:
    """By <task>/<metric>, the finite scores of a run's suite; None where it is not evaluated.

    Raises RunError where the file is not what an evaluation writes.
    """
    file = run / EVALUATIONS_FOLDER / f"{suite}.json"
    content = read_json(file)
    if content is None:
        return None
    try:
        scores = {f"{entry['task']}/{entry['metric']}": float(entry["value"]) for entry in content["scores"]}
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(f"{file} does not hold scores ({error!r}); delete it to evaluate the run again") from error
    return {key: value for key, value in scores.items() if math.isfinite(value)}
