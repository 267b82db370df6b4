"""A lock, so that the same run is never trained twice at once.

Two things together say who has a run:

- A `flock` on the file `lock`. The kernel drops it with the process that held it, however that died, so that on one
  machine no lock is ever stale and no recycled process id can be taken for the holder.
- What the holder wrote into the file, and its time, which the holder renews. Cluster file systems may keep a `flock` to
  the node it was taken on; a holder on another node counts until its sign of life is `STALE_SECONDS` old.

Where there is no `flock` at all (Windows) nothing is locked; a file system that refuses it is refused.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from rla_exp.errors import RunError, RunHeldError

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

LOCK_FILE = "lock"
RENEW_SECONDS = 20.0
STALE_SECONDS = 120.0


@dataclass(frozen=True)
class Holder:
    """Who trains a run, as it wrote itself into the lock file."""

    pid: int
    host: str

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


@contextmanager
def lock(path: Path) -> Iterator[None]:
    """Hold the lock of the run folder `path`.

    Raises:
        RunHeldError: another process holds it; the message names the process.
        RunError: the file cannot be written, or its file system has no locks.
    """
    file = path / LOCK_FILE
    try:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise RunError(f"cannot write {file}: {error.strerror or error}") from error
    try:
        if not _take_soon(descriptor, file) or _is_held_on_another_host(file):
            who = holder(path) or "another process"
            raise RunHeldError(f"{path} is being trained by {who}; wait for it or stop it")
        # a full disk is told by the first file that matters
        with suppress(OSError):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode(), 0)
        released = threading.Event()
        threading.Thread(target=_renew, args=(file, released), name="renew-lock", daemon=True).start()
        try:
            yield
        finally:
            released.set()
            # the file stays: removing it would let two processes lock two files of the same name
            with suppress(OSError):
                os.ftruncate(descriptor, 0)
    finally:
        with suppress(OSError):
            os.close(descriptor)


def is_locked(path: Path) -> bool:
    """Whether some process holds the lock of the run folder `path`; one that cannot be opened counts as free."""
    file = path / LOCK_FILE
    try:
        descriptor = os.open(file, os.O_RDWR)
    except OSError:
        return False
    try:
        return not _take(descriptor, file) or _is_held_on_another_host(file)
    except RunError:
        # who trains it is told so
        return False
    finally:
        os.close(descriptor)


def holder(path: Path) -> Holder | None:
    """Who holds, or last held, the lock of the run folder `path`; None where nobody is written there."""
    try:
        with (path / LOCK_FILE).open("rb") as file:
            content = json.loads(file.read(4096))
        return Holder(int(content["pid"]), str(content["host"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _is_held_on_another_host(file: Path) -> bool:
    """Whether a process of another node renewed its claim lately, whose lock this node may not see."""
    found = holder(file.parent)
    if found is None or found.host == socket.gethostname():
        return False
    try:
        return time.time() - file.stat().st_mtime < STALE_SECONDS
    except OSError:
        return False


def _renew(file: Path, released: threading.Event) -> None:
    while not released.wait(RENEW_SECONDS):
        with suppress(OSError):
            os.utime(file)


def _take_soon(descriptor: int, file: Path) -> bool:
    """Lock an open file; waits out a glance of `is_locked`, which holds the lock for an instant."""
    for _ in range(5):
        if _take(descriptor, file):
            return True
        time.sleep(0.05)
    return False


def _take(descriptor: int, file: Path) -> bool:
    """Lock an open file; False when it is another's."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL):
            raise RunError(
                f"cannot lock {file}: {error.strerror or error}; its file system has no locks, and without them a run "
                "could be trained twice at once. Set paths.runs (of rla-table: runs) to a folder on another one"
            ) from error
        raise
    return True
