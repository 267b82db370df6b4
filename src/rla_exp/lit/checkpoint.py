"""Checkpoints: written so that the earlier one survives, read without trusting the file."""

from __future__ import annotations

import logging
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning.fabric.plugins import CheckpointIO
from torch import Tensor, nn

from rla_exp.errors import RunError
from rla_exp.runs.files import remove_quietly

logger = logging.getLogger(__name__)

LAST = "last.ckpt"
PREVIOUS = "previous.ckpt"


class AtomicCheckpointIO(CheckpointIO):
    """Lightning's way to files: a checkpoint replaces the last one only when the disk has all of it."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write `path`; the checkpoint that stood there is kept beside it as previous.ckpt.

        Raises:
            RunError: the disk is full or refuses; the earlier checkpoint is unchanged.
        """
        path = Path(path)
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            with temporary.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            if path.exists():
                path.replace(path.with_name(PREVIOUS))
            temporary.replace(path)
        # torch's writer reports a failed write as RuntimeError
        except (OSError, RuntimeError) as error:
            remove_quietly(temporary)
            earlier = "the checkpoint before it is intact" if path.exists() else "there is none before it"
            raise RunError(
                f"cannot write checkpoint {path}: {error}; {earlier}. Free space on the disk, then the same command "
                "goes on from there"
            ) from error

    def load_checkpoint(
        self, path: str | Path, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read tensors and plain values, nothing that could run code, onto the CPU."""
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        return content

    def remove_checkpoint(self, path: str | Path) -> None:
        """Remove a checkpoint that may be gone already."""
        Path(path).unlink(missing_ok=True)


def remove_unfinished(folder: Path) -> None:
    """Remove from `folder` what processes left that were killed while they wrote a checkpoint.

    Only for the holder of the run's lock: nobody else writes there then.
    """
    for path in folder.glob(f".{LAST}.*"):
        logger.warning("removing %s, which a process was killed writing", path)
        remove_quietly(path)


class FoundCheckpoint(NamedTuple):
    """A checkpoint to go on from."""

    path: Path
    step: int
    """Optimizer steps taken when it was written."""


def newest_checkpoint(folder: Path, module: nn.Module) -> FoundCheckpoint | None:
    """The newest undamaged checkpoint in `folder` that belongs to `module`; None where there is none.

    A damaged one is set aside with a warning in the log.

    Raises:
        RunError: the checkpoint is of another model; names what differs.
    """
    for path in (folder / LAST, folder / PREVIOUS):
        if not path.exists():
            continue
        try:
            content = _read_verified(path)
            state, step = content["state_dict"], int(content["global_step"])
        except (OSError, RuntimeError, EOFError, KeyError, pickle.UnpicklingError, zipfile.BadZipFile) as error:
            reason = str(error).strip().partition("\n")[0]
            logger.warning("%s is damaged (%s) and set aside; going on from what is older", path, reason)
            path.replace(path.with_name(f"{path.name}.damaged"))
            continue
        check_same_model(path, state, module.state_dict())
        return FoundCheckpoint(path, step)
    return None


def check_same_model(path: Path, found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Refuse a checkpoint whose tensors have other names or shapes than the model's.

    Raises:
        RunError: lists every tensor that differs.
    """
    lines = [f"  {key}: not in this model" for key in found.keys() - expected.keys()]
    lines += [f"  {key}: not in the checkpoint" for key in expected.keys() - found.keys()]
    lines += [
        f"  {key}: {list(found[key].shape)} in the checkpoint, {list(expected[key].shape)} in this model"
        for key in found.keys() & expected.keys()
        if found[key].shape != expected[key].shape
    ]
    if lines:
        raise RunError(f"{path} is of another model:\n" + "\n".join(sorted(lines)) + "\nMove it away to start over.")


def _read_verified(path: Path) -> dict[str, Any]:
    """The content of a checkpoint, with the checksums of its parts verified."""
    with zipfile.ZipFile(path) as archive:
        broken = archive.testzip()
    if broken is not None:
        raise zipfile.BadZipFile(f"checksum of {broken}")
    # mapped, not read: only names and shapes are looked at
    content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    return content
