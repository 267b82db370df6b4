"""The suites of conf/eval/, by name, without what evaluates them."""

from __future__ import annotations

from functools import cache

import yaml

from rla_exp.config.locate import conf_dir


@cache
def suite_kinds() -> dict[str, str]:
    """Suite -> its kind (lm_eval, niah, mqar), by name."""
    files = sorted((conf_dir() / "eval").glob("*.yaml"))
    return {file.stem: str(yaml.safe_load(file.read_text(encoding="utf-8"))["kind"]) for file in files}
