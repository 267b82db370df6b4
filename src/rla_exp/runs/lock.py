"""A lock, so that the same run is never trained twice at once.

The kernel drops a `flock` with the process that held it, however that died: no lock is ever stale. Where there is no
`flock` (Windows) nothing is locked.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from rla_exp.errors import RunError

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

LOCK_FILE = "lock"


@contextmanager
def lock(path: Path) -> Iterator[None]:
    """Hold the lock of the run folder `path`.

    Raises:
        RunError: another process holds it; the message names the process.
    """
    file = path / LOCK_FILE
    try:
        stream = file.open("a+", encoding="utf-8")
    except OSError as error:
        raise RunError(f"cannot write {file}: {error.strerror or error}") from error
    with stream:
        if not _take_soon(stream):
            raise RunError(f"{path} is being trained by {_owner(file)}; wait for it or stop it")
        # who holds it is for people to read; a full disk is told by the first file that matters
        with suppress(OSError):
            stream.truncate(0)
            stream.write(json.dumps({"pid": os.getpid(), "host": socket.gethostname()}))
            stream.flush()
        try:
            yield
        finally:
            # the file stays: removing it would let two processes lock two files of the same name
            stream.truncate(0)


def is_locked(path: Path) -> bool:
    """Whether some process holds the lock of the run folder `path`."""
    file = path / LOCK_FILE
    if not file.exists():
        return False
    stream = file.open("a+", encoding="utf-8")
    try:
        return not _take(stream)
    finally:
        stream.close()


def _take_soon(stream: IO[str]) -> bool:
    """Lock an open file; waits out a glance of `is_locked`, which holds the lock for an instant."""
    for _ in range(5):
        if _take(stream):
            return True
        time.sleep(0.05)
    return False


def _take(stream: IO[str]) -> bool:
    """Lock an open file; False when it is another's."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _owner(file: Path) -> str:
    """The holder, as it wrote itself into the file."""
    try:
        owner = json.loads(file.read_text(encoding="utf-8"))
        return f"process {owner['pid']} on {owner['host']}"
    except (OSError, ValueError, KeyError):
        return "another process"
