"""On what the runs of a table were trained: machine, versions, commit and command, each environment once."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

from rla_exp.report.outcome import Outcome
from rla_exp.runs.environment import all_starts

# what tells environments apart; the host's name, the time and the run's own settings do not
_SAME = ("platform", "python", "versions", "cpu_count", "git", "sources")


def to_environments(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """The environments of these runs, with the number of their runs and when the first and the last began."""
    found: dict[str, dict[str, Any]] = {}
    for run in outcomes:
        # a run that went on elsewhere has several
        entries = [(_entry(start), start.get("started")) for start in all_starts(run.environment)]
        for key, (entry, started) in {json.dumps(pair[0], sort_keys=True): pair for pair in entries}.items():
            same = found.setdefault(key, {**entry, "runs": 0, "first": started, "last": started})
            same["runs"] += 1
            if started is not None:
                same["first"] = min(same["first"] or started, started)
                same["last"] = max(same["last"] or started, started)
    return sorted(found.values(), key=lambda entry: str(entry["first"]))


def _entry(start: Mapping[str, Any]) -> dict[str, Any]:
    device = start.get("device") or {}
    checks = start.get("self_checks") or ()
    return {
        "device": {key: device.get(key) for key in ("type", "name")},
        "ptxas": sorted({check["ptxas"] for check in checks if check.get("ptxas")}),
        "command": [_without_folders(word) for word in start.get("command") or ()],
        **{key: start.get(key) for key in _SAME},
    }


def _without_folders(word: str) -> str:
    """A word of a command line, free of the machine's paths: of each path that is not below the working folder, its
    last name."""
    key, equals, value = word.partition("=") if "=" in word else ("", "", word)
    return key + equals + ",".join(_name(part) for part in value.split(","))


def _name(text: str) -> str:
    path = text.strip("'\"")
    windows = PureWindowsPath(path)
    if PurePosixPath(path).is_absolute() or windows.is_absolute() or ".." in windows.parts or path.startswith("~"):
        return windows.name
    return text
