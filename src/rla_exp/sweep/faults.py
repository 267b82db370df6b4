"""Faults for a sweep under test: what power cuts, full disks and out-of-memory killers do to its processes and files.

Everything here acts from outside, through the kernel, on a sweep that knows nothing of it. Linux only.
"""

from __future__ import annotations

import os
import random
import resource
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from rla_exp.runs.folder import CHECKPOINT_FOLDER
from rla_exp.runs.lock import is_locked
from rla_exp.runs.status import Status
from rla_exp.sweep.recorded import is_finished, read_status

LAST_CHECKPOINT = f"{CHECKPOINT_FOLDER}/last.ckpt"


@dataclass(frozen=True)
class Scene:
    """A sweep at work."""

    parent: int
    """Its process."""
    runs: Path
    """The folder of its runs."""
    rng: random.Random

    def working(self) -> list[tuple[Path, Status]]:
        """The runs that train at this moment, by their folders."""
        found = []
        for file in sorted(self.runs.rglob("status.json")):
            status = read_status(file.parent)
            if status is not None and status.state == "running" and is_locked(file.parent):
                found.append((file.parent, status))
        return found


Fault = Callable[[Scene], bool]
"""Does harm; False where there was nothing to harm yet."""


def kill_job(scene: Scene) -> bool:
    """kill -9 of one job."""
    for _folder, status in _one(scene):
        return _kill(status.pid)
    return False


def kill_parent(scene: Scene) -> bool:
    """kill -9 of the sweep's process alone; its jobs are orphans."""
    return bool(scene.working()) and _kill(scene.parent)


def kill_everything(scene: Scene) -> bool:
    """kill -9 of the sweep and all its jobs at once, as a power cut would."""
    if not scene.working():
        return False
    killed = [_kill(pid) for pid in (scene.parent, *descendants(scene.parent))]
    return any(killed)


def stop_politely(scene: Scene) -> bool:
    """SIGTERM to the sweep, as a shutdown sends it."""
    if not scene.working():
        return False
    with suppress(ProcessLookupError):
        os.kill(scene.parent, signal.SIGTERM)
    return True


def fill_disk(scene: Scene) -> bool:
    """From now on the kernel refuses a job every write beyond a few KiB of a file, part of it written, part not."""
    for _folder, status in _one(scene):
        limit = scene.rng.choice([0, 200, 4096, 20_000])
        with suppress(OSError):
            resource.prlimit(status.pid, resource.RLIMIT_FSIZE, (limit, limit))
            return True
    return False


def corrupt_checkpoint(scene: Scene) -> bool:
    """kill -9 of one job, then damage to its last checkpoint: cut short, emptied, or a bit turned."""
    for folder, status in _one(scene):
        file = folder / LAST_CHECKPOINT
        if not file.exists() or not _kill(status.pid):
            return False
        _wait_until(lambda folder=folder: not is_locked(folder), seconds=5)  # type: ignore[misc]
        if is_finished(folder):
            return False
        content = bytearray(file.read_bytes())
        match scene.rng.choice(["cut", "empty", "bit"]):
            case "cut":
                content = content[: len(content) // 2]
            case "empty":
                content = bytearray()
            case "bit":
                # in the middle: the weights, where nothing but a checksum tells
                content[len(content) // 2] ^= 1 << scene.rng.randrange(8)
        file.write_bytes(content)
        return True
    return False


FAULTS: dict[str, Fault] = {
    "kill -9 of a job": kill_job,
    "kill -9 of the sweep": kill_parent,
    "kill -9 of everything": kill_everything,
    "SIGTERM to the sweep": stop_politely,
    "full disk": fill_disk,
    "corrupt last checkpoint": corrupt_checkpoint,
}


def descendants(pid: int) -> list[int]:
    """The children of a process, theirs, and so on."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            # the name, in brackets, may hold anything
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(stat.parent.name))

    def below(parent: int) -> Iterator[int]:
        for child in children.get(parent, []):
            yield child
            yield from below(child)

    return list(below(pid))


def _one(scene: Scene) -> list[tuple[Path, Status]]:
    working = scene.working()
    return [scene.rng.choice(working)] if working else []


def _kill(pid: int) -> bool:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def _wait_until(condition: Callable[[], bool], *, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
