"""Runs as one file, for machines that are lent for a while and take nothing but small files: what is needed to show
finished runs and to skip them, without their checkpoints.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from rla_exp.errors import RunError
from rla_exp.runs.evaluations import EVALUATION_FOLDER
from rla_exp.runs.folder import CHECKPOINT_FOLDER, CONFIG_FILE, ENVIRONMENT_FILE, STATUS_FILE, RunFolder
from rla_exp.runs.lock import is_locked
from rla_exp.runs.log import LOG_FILE
from rla_exp.runs.metrics import METRICS_FILE
from rla_exp.runs.result import RESULT_FILE

# the result last: a run that has one is whole, also where unpacking was cut off
FILES = (CONFIG_FILE, ENVIRONMENT_FILE, STATUS_FILE, METRICS_FILE, LOG_FILE)
LAST_CHECKPOINT = "last.ckpt"


@dataclass(frozen=True)
class Handed:
    """What became of the runs, as <experiment>/<name>-<hash8>/seed<k>."""

    taken: list[str]
    left: dict[str, str]
    """Runs that were not taken, and why."""


def pack_runs(runs: Path, file: Path, *, checkpoint_mib: float = 0.0) -> Handed:
    """Write the runs below a folder into a .tar.xz.

    Finished and failed runs go without checkpoints. An interrupted run goes with its last checkpoint where that is no
    larger than `checkpoint_mib`, and else not at all, for without it it would begin again.

    Raises:
        RunError: there are no runs, or the file cannot be written.
    """
    taken, left = [], {}
    try:
        with tarfile.open(file, "w:xz") as archive:
            for folder in _run_folders(runs):
                name = folder.relative_to(runs).as_posix()
                reason = _reason_to_leave(folder, checkpoint_mib)
                if reason is not None:
                    left[name] = reason
                    continue
                for path in _files_of(folder):
                    archive.add(path, path.relative_to(runs).as_posix())
                taken.append(name)
    except OSError as error:
        raise RunError(f"cannot write {file}: {error.strerror or error}") from error
    if not taken and not left:
        file.unlink(missing_ok=True)
        raise RunError(f"no runs are below {runs}")
    return Handed(taken, left)


def unpack_runs(file: Path, runs: Path) -> Handed:
    """Put the runs of an archive below a folder. A run that is finished there already, or that is being trained, stays
    as it is.

    Raises:
        RunError: the file cannot be read or holds anything but files of runs.
    """
    taken, left = [], {}
    try:
        with tarfile.open(file, "r:xz") as archive:
            by_run: dict[str, list[tarfile.TarInfo]] = {}
            for member in archive.getmembers():
                by_run.setdefault(_run_of(member, file), []).append(member)
            for name, members in by_run.items():
                if (runs / name / RESULT_FILE).is_file():
                    left[name] = "finished here"
                elif is_locked(runs / name):
                    left[name] = "trained here at this moment"
                else:
                    archive.extractall(runs, members, filter="data")
                    taken.append(name)
    except (OSError, tarfile.TarError, EOFError) as error:
        raise RunError(f"cannot unpack {file}: {error}") from error
    return Handed(taken, left)


def _run_folders(runs: Path) -> Iterator[Path]:
    return (path.parent for path in sorted(runs.glob(f"*/*/seed*/{CONFIG_FILE}")))


def _reason_to_leave(folder: Path, checkpoint_mib: float) -> str | None:
    if is_locked(folder):
        return "trained at this moment"
    status = RunFolder(folder).read_status()
    if (folder / RESULT_FILE).is_file() or (status is not None and status.state == "failed"):
        return None
    checkpoint = folder / CHECKPOINT_FOLDER / LAST_CHECKPOINT
    if not checkpoint.is_file():
        return "no checkpoint yet"
    size = checkpoint.stat().st_size / 2**20
    return None if size <= checkpoint_mib else f"its checkpoint has {size:.1f} MiB"


def _files_of(folder: Path) -> Iterator[Path]:
    is_finished = (folder / RESULT_FILE).is_file()
    status = RunFolder(folder).read_status()
    goes_on = not is_finished and (status is None or status.state != "failed")
    checkpoint = [folder / CHECKPOINT_FOLDER / LAST_CHECKPOINT] if goes_on else []
    evaluations = sorted((folder / EVALUATION_FOLDER).glob("*.json"))
    wanted = [*(folder / name for name in FILES), *evaluations, *checkpoint, folder / RESULT_FILE]
    return (path for path in wanted if path.is_file())


def _run_of(member: tarfile.TarInfo, file: Path) -> str:
    path = PurePosixPath(member.name)
    if not member.isfile() or len(path.parts) < 4 or path.is_absolute() or ".." in path.parts:
        raise RunError(f"{file} holds {member.name}, which is no file of a run; nothing was unpacked")
    return "/".join(path.parts[:3])
