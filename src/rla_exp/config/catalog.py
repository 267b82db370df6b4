"""The groups of `conf/` and the options in each."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from itertools import takewhile
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

MAIN = "config"


@dataclass(frozen=True)
class Catalog:
    """What can be chosen for a run."""

    folder: Path
    options: dict[str, tuple[str, ...]]
    """Group -> its options, for the groups in the defaults list of config.yaml."""
    defaults: dict[str, str | None]
    """Group -> the option taken without a choice."""
    elsewhere: dict[str, tuple[str, ...]]
    """Groups that are no part of a training run (table, eval)."""

    def owners(self, option: str) -> list[str]:
        """The groups that have an option of this name."""
        return [group for group, options in self.options.items() if option in options]

    def ablation_settings(self, name: str) -> dict[str, Any]:
        """What an ablation fixes: key below `model` -> value."""
        return dict(_load(self.folder / "ablation" / f"{name}.yaml").get("model") or {})

    def summary(self, group: str, option: str) -> str:
        """The first sentence of a file's opening comment."""
        lines = (self.folder / group / f"{option}.yaml").read_text(encoding="utf-8").splitlines()
        comment = [line.lstrip("# ") for line in takewhile(lambda line: line.startswith("#"), lines)]
        text = " ".join(line for line in comment if not line.startswith("@package"))
        sentence = re.match(r".+?[.?](?=\s|$)", text)
        return sentence[0] if sentence else text


@cache
def read_catalog(folder: Path) -> Catalog:
    """Read the names of groups and options, and the defaults list."""
    defaults: dict[str, str | None] = {}
    for entry in _load(folder / f"{MAIN}.yaml")["defaults"]:
        if isinstance(entry, dict):
            ((group, option),) = entry.items()
            # an interpolated option follows from others: it is nobody's choice
            if not group.startswith("override ") and "${" not in str(option):
                defaults[group] = option
    found = {
        path.name: tuple(sorted(file.stem for file in path.glob("*.yaml")))
        for path in sorted(folder.iterdir())
        if path.is_dir()
    }
    return Catalog(
        folder=folder,
        options={group: found.get(group, ()) for group in defaults},
        defaults=defaults,
        elsewhere={group: options for group, options in found.items() if group not in defaults and options},
    )


def _load(path: Path) -> dict[str, Any]:
    loaded = OmegaConf.to_container(OmegaConf.load(path))
    assert isinstance(loaded, dict)
    return {str(key): value for key, value in loaded.items()}
