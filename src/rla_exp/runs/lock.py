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
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise RunError(f"cannot write {file}: {error.strerror or error}") from error
    try:
        if not _take_soon(descriptor):
            raise RunError(f"{path} is being trained by {_owner(file)}; wait for it or stop it")
        # who holds it is for people to read; a full disk is told by the first file that matters
        owner = json.dumps({"pid": os.getpid(), "host": socket.gethostname()})
        with suppress(OSError):
            os.ftruncate(descriptor, 0)
            os.write(descriptor, owner.encode())
        try:
            yield
        finally:
            # the file stays: removing it would let two processes lock two files of the same name
            with suppress(OSError):
                os.ftruncate(descriptor, 0)
    finally:
        with suppress(OSError):
            os.close(descriptor)


def is_locked(path: Path) -> bool:
    """Whether some process holds the lock of the run folder `path`; one that cannot be opened counts as free."""
    try:
        descriptor = os.open(path / LOCK_FILE, os.O_RDWR)
    except OSError:
        return False
    try:
        return not _take(descriptor)
    finally:
        os.close(descriptor)


def _take_soon(descriptor: int) -> bool:
    """Lock an open file; waits out a glance of `is_locked`, which holds the lock for an instant."""
    for _ in range(5):
        if _take(descriptor):
            return True
        time.sleep(0.05)
    return False


def _take(descriptor: int) -> bool:
    """Lock an open file; False when it is another's."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
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
