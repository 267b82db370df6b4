"""The hash that says whether two runs compute the same numbers."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping
from typing import Any

# the seed has a folder of its own; the device type and the threads count as they turn out to be
LEFT_OUT = (
    "paths",
    "logger",
    "evaluation",
    "seed",
    "experiment",
    "retry_failed",
    "trainer.accelerator",
    "trainer.threads",
    "trainer.progress",
    "trainer.checkpoint_every",
    # where the text lies; what it says is in the corpus's hash
    "data.paths",
    "data.test_paths",
)


def identity(resolved: Mapping[str, Any], *, corpus_sha256: str | None, device_type: str, threads: int) -> str:
    """64 hex digits over all that changes a run's numbers.

    Args:
        resolved: the whole configuration (`Composed.resolved`).
        corpus_sha256: of the text that the data is made from; None for generated data.
        device_type: "cpu" or "cuda", as it turned out to be.
        threads: CPU threads that the run has; sums depend on them.
    """
    counted = copy.deepcopy(dict(resolved))
    for name in LEFT_OUT:
        section, _, key = name.partition(".")
        if key:
            counted[section].pop(key, None)
        else:
            counted.pop(section)
    whole = {"config": counted, "corpus_sha256": corpus_sha256, "device_type": device_type, "threads": threads}
    canonical = json.dumps(whole, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def hash8(full: str) -> str:
    """The part of an identity that the name of a run's folder carries."""
    return full[:8]
