"""Where `conf/` is."""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]


def conf_dir() -> Path:
    """The folder of YAML groups: inside the package when it came from a wheel, beside `src/` in a source checkout."""
    packed = PACKAGE / "conf"
    return packed if packed.is_dir() else PACKAGE.parents[1] / "conf"
