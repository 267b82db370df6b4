"""Local files in place of the text that a table names, for machines without a network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath

from omegaconf import OmegaConf

from rla_exp.config.locate import conf_dir
from rla_exp.config.overrides import quoted


@dataclass(frozen=True)
class LocalText:
    """What the studies on text read instead of their corpora."""

    paths: tuple[str, ...]
    """Files or globs, as data.paths takes them."""
    test_paths: tuple[str, ...] = ()
    """The test split, a domain a file; empty: a part of paths."""

    @property
    def overrides(self) -> list[str]:
        """What takes the place of a study's `data=NAME`."""
        held_out = [f"data.test_paths={_listed(self.test_paths)}"] if self.test_paths else []
        return ["data=files", f"data.paths={_listed(self.paths)}", *held_out]

    @property
    def words(self) -> str:
        """What a caption says of it: the files' names, free of the machine's folders."""
        held_out = f", tested on {_names(self.test_paths)}" if self.test_paths else ""
        return f"local text ({_names(self.paths)}{held_out})"


def is_text(override: str) -> bool:
    """Whether an override chooses data that are text."""
    key, _, name = override.partition("=")
    file = conf_dir() / "data" / f"{name}.yaml"
    return key.strip() == "data" and file.is_file() and OmegaConf.select(OmegaConf.load(file), "kind") == "text"


def _listed(paths: Sequence[str]) -> str:
    return f"[{','.join(quoted(path) for path in paths)}]"


def _names(paths: Sequence[str]) -> str:
    return ", ".join(PurePath(path).name for path in paths)
