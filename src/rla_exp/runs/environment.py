"""What a run ran on: environment.json."""

from __future__ import annotations

import os
import platform
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from rla_exp.runs.provenance import git_commit, sources_hash

PACKAGES = (
    "rla_exp",
    "torch",
    "triton",
    "lightning",
    "hydra-core",
    "omegaconf",
    "numpy",
    "datasets",
    "tokenizers",
    "wandb",
)


def describe_environment(overrides: Sequence[str], device_type: str) -> dict[str, Any]:
    """Versions, hardware, commit and overrides of a run that starts now, on `device_type` ("cpu" or "cuda")."""
    commit = git_commit()
    return {
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "overrides": list(overrides),
        "command": sys.argv,
        "host": socket.gethostname(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
        "device": {"type": device_type, "name": device_name(device_type), **_gpu(device_type)},
        "cpu_count": os.cpu_count(),
        "git": None if commit is None else {"commit": commit[0], "dirty": commit[1]},
        "sources": sources_hash(),
    }


def all_starts(environment: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Of a run's environment.json: what the run was started on each time, oldest first; none where nothing is known."""
    return [*environment.get("earlier", ()), environment] if environment else []


def _gpu(device_type: str) -> dict[str, Any]:
    """Which GPU it is, and how many the run sees; nothing on a CPU."""
    if device_type != "cuda":
        return {}
    import torch

    return {
        "uuid": str(torch.cuda.get_device_properties(0).uuid),
        "visible": os.environ.get("CUDA_VISIBLE_DEVICES"),
        "count": torch.cuda.device_count(),
    }


def device_name(device_type: str) -> str:
    """The model of the processor or of the first visible GPU."""
    if device_type == "cuda":
        import torch

        return torch.cuda.get_device_name(0)
    return _cpu_name()


def _cpu_name() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:  # noqa: PTH123 - a device of Linux, not a path to handle
            for line in file:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        return platform.processor() or platform.machine()
    return platform.machine()


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
