"""A run that trains nothing; its overrides say how it goes. Workers import this module by name."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

from rla_exp.errors import DataError, InterruptedRun, NonFiniteError
from rla_exp.runs import RunFolder, Status, git_commit, sources_hash
from rla_exp.runs.files import write_atomically
from rla_exp.sweep import Job


def make_job(folder: Path, *, device_type: Literal["cpu", "cuda"] = "cpu", **settings: object) -> Job:
    """The job of a fake run in a folder."""
    overrides = (f"folder={folder}", *(f"{key}={value}" for key, value in settings.items()))
    return Job(
        overrides=overrides,
        folder=folder,
        work=partial(run, overrides),
        device_type=device_type,
        retry_failed="retry_failed" in settings,
        label=folder.name,
    )


def run(overrides: Sequence[str]) -> None:
    """`steps` steps of `pause` seconds with a checkpoint each, then what `do` says; a result at the end.

    Locked, and skipped where it is finished, as a true run is.
    """
    settings = dict(override.split("=", 1) for override in overrides)
    folder = RunFolder(Path(settings["folder"]))
    with folder.lock():
        if not (folder.path / "result.json").exists():
            _train(folder, settings)


def _train(folder: RunFolder, settings: Mapping[str, str]) -> None:
    steps, pause = int(settings.get("steps", "2")), float(settings.get("pause", "0"))
    checkpoint = folder.path / "checkpoint"
    first = int(checkpoint.read_text()) if checkpoint.exists() else 0
    sys.stdout.write(f"begins at step {first}\n")
    stopped: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda received, _: stopped.append(received))
    for step in range(first + 1, steps + 1):
        time.sleep(pause)
        write_atomically(checkpoint, str(step))
        folder.write_status(Status(state="running", step=step, max_steps=steps, loss=1.0 / step, tokens_per_s=100.0))
        if stopped:
            folder.write_status(Status(state="interrupted", step=step, max_steps=steps))
            raise InterruptedRun(f"stopped at step {step}")
    match settings.get("do"):
        case "raise":
            reason = "the reason"
            folder.write_status(Status(state="failed", step=steps, max_steps=steps, error=f"RuntimeError: {reason}"))
            sys.stdout.write(f"RuntimeError: {reason}\n")
            raise RuntimeError(reason)
        case "refuse":
            raise DataError("no corpus")
        case "diverge" if "retry_failed" not in settings:
            error = NonFiniteError(7, "blocks.1.mixer", "loss")
            folder.write_status(Status(state="failed", step=7, max_steps=steps, error=f"NonFiniteError: {error}"))
            raise error
        case "die":
            os.kill(os.getpid(), signal.SIGKILL)
        case "leave":
            os._exit(3)
        case "nothing":
            return
    seen = {"pid": os.getpid(), "parent": os.getppid(), "device": os.environ.get("CUDA_VISIBLE_DEVICES")}
    seen |= {
        "threads": os.environ.get("OMP_NUM_THREADS"),
        "modules": sorted({"torch", "lightning", "rla_exp.lit.fit"} & set(sys.modules)),
    }
    seen["gpu_touched"] = "torch" in sys.modules and sys.modules["torch"].cuda.is_initialized()
    # computed before this process began, where there are some
    seen["remembered"] = [function.cache_info().currsize for function in (sources_hash, git_commit)]
    server = Path(f"/proc/{os.getppid()}/task")
    seen["server_threads"] = len(list(server.iterdir())) if server.exists() else 1
    result = {"metrics": {"first_step": float(first)}, "timing": {}, "provenance": seen}
    (folder.path / "result.json").write_text(json.dumps(result))
