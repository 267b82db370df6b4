"""Small files, written so that a reader never sees half of one, and the paths that users write."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rla_exp.errors import RunError


def expand_home(path: str) -> Path:
    """A path as a user writes it, with ~ for a home folder.

    Raises:
        RunError: there is no such user.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise RunError(f"{path}: {error}; write the whole path") from error


def write_atomically(path: Path, text: str, *, durable: bool = True) -> None:
    """Replace `path` by `text`: the old content or the new one is there at any time, never a part.

    Args:
        durable: wait until the disk has it, so that it outlasts a power cut; too slow for what is written every second.

    Raises:
        RunError: the folder cannot be written or the disk is full; what was there before is unchanged.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        remove_quietly(temporary)
        raise RunError(
            f"cannot write {path}: {error.strerror or error}; free space or choose another paths.runs"
        ) from error


def write_json(path: Path, content: Mapping[str, Any], *, durable: bool = True) -> None:
    """Replace `path` by `content` as JSON; numbers that are not finite raise ValueError, for JSON has none."""
    write_atomically(path, json.dumps(content, indent=2, allow_nan=False) + "\n", durable=durable)


def read_json(path: Path) -> dict[str, Any] | None:
    """The object in `path`; None where there is no such file.

    Raises:
        RunError: the file cannot be read or holds something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    # a file where the folder should be is found out by the first write
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise RunError(f"cannot read {path}: {error}; delete the file to have it written again") from error
    if not isinstance(content, dict):
        raise RunError(f"{path} should hold a JSON object, not {type(content).__name__}; delete it")
    return content


def remove_quietly(path: Path) -> None:
    """Remove a file that may be gone already or be on a disk that refuses."""
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return
