"""Where what several runs share is kept: corpora, tokens, trained tokenizers."""

from __future__ import annotations

import os
from pathlib import Path

from rla_exp.config.schema import PathsConfig
from rla_exp.runs.files import expand_home


def cache_dir(paths: PathsConfig) -> Path:
    """The folder of `paths.cache`; where that is null, rla_exp in the user's cache folder. It need not exist."""
    if paths.cache is not None:
        return expand_home(paths.cache)
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "rla_exp"
