"""The process that measures: requests are lines of JSON on stdin, answers lines of JSON on what was stdout."""

from __future__ import annotations

import gc
import json
import os
import sys
import traceback
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import torch

from rla_exp.bench.calls import lift_refusal, make_call, passes_in_one
from rla_exp.bench.cases import Case
from rla_exp.bench.implementations import OURS
from rla_exp.bench.limits import measure_limits
from rla_exp.bench.problem import make_problem
from rla_exp.bench.timing import measure

LIFTED = ", its refusal of this Triton lifted"


def answer(request: dict[str, Any], *, name: str, device: torch.device, backend: str) -> dict[str, Any]:
    """Do what a request asks for: `warm` (a first call), `time` or `limits`.

    Returns what was measured, or `failure`, and with it `broken` where the device's context is beyond use.
    """
    try:
        if request["what"] == "limits":
            return asdict(measure_limits(device, request["seconds"]))
        case = Case.from_json(request["case"])
        problem = make_problem(case, device)
        call = make_call(name, problem, backend)
        call()
        _synchronize(device)
        if request["what"] == "warm":
            return {}
        # of its ops the ungated one alone is not refused
        is_lifted = name in ("fla", "fla_twice") and case.op != "delta_net" and lift_refusal()
        reply = {**asdict(measure(call, device, request["seconds"])), "note": LIFTED if is_lifted else ""}
        in_one = passes_in_one(problem, backend) if name == OURS else []
        return {**reply, "in_one": in_one} if in_one else reply
    # whatever a kernel or a compiler may raise is a result here
    except Exception as error:
        traceback.print_exc()
        reason = f"{type(error).__name__}: {str(error).strip() or 'without a message'}"
        return {"failure": reason.splitlines()[0], "broken": _is_broken(device)}
    finally:
        # what a failed call leaves behind, the next one needs
        gc.collect()
        if device.type == "cuda":
            _quietly(torch.cuda.empty_cache)


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _is_broken(device: torch.device) -> bool:
    return not _quietly(lambda: _synchronize(device))


def _quietly(act: Callable[[], None]) -> bool:
    try:
        act()
    except RuntimeError:
        return False
    return True


def main() -> None:
    """Answer until stdin ends. Arguments: implementation, device, backend."""
    # others print to stdout
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    name, device, backend = sys.argv[1:]
    if device == "cpu":
        torch.set_num_threads(1)
    for line in sys.stdin:
        reply = answer(json.loads(line), name=name, device=torch.device(device), backend=backend)
        answers.write(json.dumps(reply) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
