"""Runs found by what they compute, where their folders' names cannot be told: trained on another machine or corpus."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rla_exp.config.run_identity import LEFT_OUT
from rla_exp.runs.folder import CONFIG_FILE, RunFolder

# no part of an identity, but of the folder's place and of how the numbers came about
COMPARED = ("seed", "experiment", "trainer.threads")


class RunsByConfig:
    """The runs below a folder, by their config.yaml.

    Two runs of one configuration differ in their corpus or device: result.json tells which.
    """

    def __init__(self, runs: Path) -> None:
        self._folders: dict[str, list[Path]] = {}
        for file in sorted(runs.glob(f"*/*/seed*/{CONFIG_FILE}")):
            config = RunFolder(file.parent).read_config()
            assert config is not None
            self._folders.setdefault(_comparable(config), []).append(file.parent)

    def find(self, resolved: Mapping[str, Any]) -> list[Path]:
        """The folders of the runs with this configuration (`Composed.resolved`)."""
        return self._folders.get(_comparable(resolved), [])


def _comparable(config: Mapping[str, Any]) -> str:
    """A configuration without what does not change its numbers."""
    counted = copy.deepcopy(dict(config))
    for name in LEFT_OUT:
        section, _, key = name.partition(".")
        if name in COMPARED:
            continue
        if key:
            # a file that was edited may lack anything
            counted.get(section, {}).pop(key, None)
        else:
            counted.pop(section, None)
    return json.dumps(counted, sort_keys=True, default=str)
