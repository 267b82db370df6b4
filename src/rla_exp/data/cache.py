"""Folders that are computed once: written aside, moved into place whole, and checked before every use."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rla_exp.errors import DataError

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

logger = logging.getLogger(__name__)

INFO, MANIFEST = "info.json", "manifest.json"
Info = dict[str, Any]


def cached_folder(folder: Path, build: Callable[[Path], Info]) -> Info:
    """Return what `build` said about `folder`, building it first where it is missing or damaged.

    `build(partial)` writes its files into an empty folder and returns what readers must know about them (JSON).
    The folder appears only when complete, with the size and sha256 of every file; both are checked here each time.
    Of several processes that need the same folder one builds it and the others wait; on Windows, which has no `flock`,
    nothing makes them wait.

    Raises:
        DataError: the folder cannot be written.
    """
    info = _verified(folder)
    if info is not None:
        return info
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _lock(folder.with_name(folder.name + ".lock")):
            info = _verified(folder)
            return _rebuild(folder, build) if info is None else info
    except OSError as error:
        reason = error.strerror or str(error)
        raise DataError(
            f"cannot write the cache {folder}: {reason}. Free space there, or set paths.cache to another folder"
        ) from error


def _rebuild(folder: Path, build: Callable[[Path], Info]) -> Info:
    partial = folder.with_name(folder.name + ".partial")
    # the lock is held, so whatever stands here was left by a process that was killed
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        info = build(partial)
        (partial / INFO).write_text(json.dumps(info), encoding="utf-8")
        files = {path.name: _describe(path) for path in sorted(partial.iterdir())}
        (partial / MANIFEST).write_text(json.dumps(files, indent=1), encoding="utf-8")
        if folder.exists():
            shutil.rmtree(folder)
        partial.rename(folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return info


def _verified(folder: Path) -> Info | None:
    """The info of a whole folder; None, with a warning in the log, where it is missing or differs from its manifest."""
    if not folder.is_dir():
        return None
    try:
        files = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        for name, expected in files.items():
            # the size first: it costs nothing and finds most damage
            if (folder / name).stat().st_size != expected["bytes"] or _describe(folder / name) != expected:
                logger.warning("cache %s is damaged (%s differs from its manifest): building it again", folder, name)
                return None
        info: Info = json.loads((folder / INFO).read_text(encoding="utf-8"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        logger.warning("cache %s is damaged (%s): building it again", folder, error)
        return None
    return info


def _describe(path: Path) -> dict[str, int | str]:
    with path.open("rb") as file:
        return {"bytes": os.fstat(file.fileno()).st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    # the kernel drops the lock with the process, so a killed one leaves nothing to clean up
    with path.open("w") as file:
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def key_of(**parts: Any) -> str:
    """32 hex digits that name a cached folder by everything that its content depends on (JSON values)."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]
