"""On what the runs of a table were trained: machine, versions, commit and command, each environment once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import PurePath
from typing import Any

from rla_exp.report.outcome import Outcome

# what tells environments apart; the host's name, the time and the run's own settings do not
_SAME = ("platform", "python", "versions", "cpu_count", "git", "sources")


def to_environments(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """The environments of these runs, with the number of their runs and when the first and the last began."""
    found: dict[str, dict[str, Any]] = {}
    for environment in (run.environment for run in outcomes if run.environment):
        device = environment.get("device") or {}
        checks = environment.get("self_checks") or ()
        entry = {
            "device": {key: device.get(key) for key in ("type", "name")},
            "ptxas": sorted({check["ptxas"] for check in checks if check.get("ptxas")}),
            "command": [_without_folders(word) for word in environment.get("command") or ()],
            **{key: environment.get(key) for key in _SAME},
        }
        started = str(environment.get("started"))
        same = found.setdefault(json.dumps(entry, sort_keys=True), {**entry, "runs": 0, "first": started, "last": ""})
        same["runs"] += 1
        same["first"], same["last"] = min(same["first"], started), max(same["last"], started)
    return sorted(found.values(), key=lambda entry: str(entry["first"]))


def _without_folders(word: str) -> str:
    """A word of a command line, free of the machine's paths."""
    key, equals, value = word.rpartition("=")
    return f"{key}{equals}{PurePath(value).name}" if PurePath(value).is_absolute() else word
