"""What was measured on a GPU, kept on disk: one JSON file each, named by a hash of everything that it depends on."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import torch

from rla_exp.kernels.triton.assembler import assembler_version

SOURCES = Path(__file__).resolve().parents[1]


def stored_file(kind: str, key: dict[str, Any]) -> Path:
    """Where the outcome for this key is kept: rla_exp in the user's cache folder, beside what runs keep there."""
    home = os.environ.get("XDG_CACHE_HOME")
    folder = (Path(home) if home else Path.home() / ".cache") / "rla_exp" / kind
    return folder / f"{hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:24]}.json"


def read_stored(file: Path, entry: str, kind: type) -> dict[str, Any] | None:
    """The outcome; None also where the file is damaged (its `entry` is not of this type): then it is measured anew."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) and isinstance(content.get(entry), kind) else None


def write_stored(file: Path, outcome: dict[str, Any]) -> None:
    """Whole or not at all; where nothing can be written, every process measures for itself."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=file.parent, suffix=".tmp", delete=False, encoding="utf-8") as part:
            json.dump(outcome, part, indent=2, allow_nan=False)
        Path(part.name).replace(file)
    except OSError:
        return


@cache
def environment(device_index: int) -> dict[str, Any]:
    """What compiled kernels depend on: GPU, torch, triton, assembler, and the sources of the kernels."""
    import triton

    capability = torch.cuda.get_device_capability(device_index)
    return {
        "gpu": torch.cuda.get_device_name(device_index),
        "capability": f"{capability[0]}.{capability[1]}",
        "torch": torch.__version__,
        "triton": triton.__version__,
        "ptxas": ".".join(map(str, assembler_version(10 * capability[0] + capability[1]))),
        "sources": _sources_hash(),
    }


@cache
def _sources_hash() -> str:
    digest = hashlib.sha256()
    for file in sorted(SOURCES.rglob("*.py")):
        digest.update(f"{file.relative_to(SOURCES).as_posix()}\0".encode() + file.read_bytes() + b"\0")
    return digest.hexdigest()
