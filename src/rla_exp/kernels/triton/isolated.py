"""A self-check in a process of its own: kernels that access memory they must not take down only that."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from rla_exp.kernels.verify.backends import load_backend
from rla_exp.kernels.verify.measure import CaseResult, check_case
from rla_exp.kernels.verify.problem import Case

MAX_SECONDS = 600.0
PACKAGE_PARENT = Path(__file__).resolve().parents[3]


def measure(setting: Sequence[Any], device: str) -> dict[str, Any]:
    """What `summarize` says of the setting's cases, measured by another process on this device ("cuda:0")."""
    path = os.pathsep.join([str(PACKAGE_PARENT), *filter(None, [os.environ.get("PYTHONPATH")])])
    # not -m: the package imports this module itself
    command = [sys.executable, "-c", f"from {__name__} import main; main()", json.dumps(list(setting)), device]
    try:
        run = subprocess.run(
            command,
            env={**os.environ, "PYTHONPATH": path},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=MAX_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return _without_numbers(f"{type(error).__name__}: {error}")
    lines = run.stdout.splitlines()
    try:
        outcome = json.loads(lines[-1])
    except (IndexError, ValueError):
        said = (run.stderr.strip().splitlines() or ["nothing"])[-1]
        return _without_numbers(f"its process ended with exit code {run.returncode} and said {said}")
    assert isinstance(outcome, dict)
    return outcome


def measure_here(cases: Sequence[Case], device: torch.device) -> dict[str, Any]:
    """Measure the cases in this process."""
    backend = load_backend("triton")
    return summarize([check_case(case, backend, device) for case in cases])


def summarize(results: Sequence[CaseResult]) -> dict[str, Any]:
    """Errors by case and tensor, failures, and whether that is the kernels' fault and not an accident's."""
    return {
        "errors": {result.name: result.to_json().get("errors", {}) for result in results},
        "failures": [f"{result.name}: {failure}" for result in results for failure in result.failures],
        # without numbers: out of memory, say, which may be another time's luck
        "is_conclusive": all(result.errors or result.context_is_broken for result in results),
    }


def _without_numbers(failure: str) -> dict[str, Any]:
    return {"errors": {}, "failures": [failure], "is_conclusive": False}


def main() -> None:
    """Of the other process: print the outcome for the setting and device of the command line as the last line."""
    from rla_exp.kernels.triton.guard import Setting

    setting, device = sys.argv[1:]
    sys.stdout.write(
        "\n" + json.dumps(measure_here(Setting(*json.loads(setting)).cases(), torch.device(device))) + "\n"
    )
