"""Whether a folder holds the run that is to be trained, or one that looks like it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rla_exp.config.run_identity import LEFT_OUT
from rla_exp.errors import RunError
from rla_exp.runs.folder import CONFIG_FILE, RunFolder


def check_same_config(folder: RunFolder, resolved: Mapping[str, Any]) -> None:
    """Refuse a folder whose config.yaml computes other numbers than `resolved`.

    Settings outside the identity may differ.

    Raises:
        RunError: the file was edited, or two configurations share the digits in the folder's name; shows what differs.
    """
    stored = folder.read_config()
    if stored is None:
        return
    there, here = _flat(stored), _flat(resolved)
    differing = [key for key in sorted(there.keys() | here.keys()) if there.get(key) != here.get(key)]
    lines = [f"  {key}: {_show(there, key)} in the file, {_show(here, key)} now" for key in differing if _counts(key)]
    if lines:
        raise RunError(
            f"{folder.path / CONFIG_FILE} is of another run:\n" + "\n".join(lines) + "\nIt was edited, or two "
            "configurations share the digits in the folder's name. Move the folder away, or choose another paths.runs."
        )


def _counts(key: str) -> bool:
    return not any(key == name or key.startswith(f"{name}.") for name in LEFT_OUT)


def _show(flat: Mapping[str, Any], key: str) -> str:
    return repr(flat[key]) if key in flat else "absent"


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested sections as dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            flat.update(_flat(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat
