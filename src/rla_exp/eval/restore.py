"""A trained model, from its run folder alone."""

from __future__ import annotations

import hashlib
import pickle
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from rla_exp.config.schema import MqarConfig, RunConfig
from rla_exp.config.typed import to_typed
from rla_exp.data import build_data
from rla_exp.data.text import TextData
from rla_exp.data.tokenizer import ByteTokenizer, Tokenizer, load_subword
from rla_exp.errors import RunError
from rla_exp.eval.trained_model import TrainedModel
from rla_exp.models import build_model
from rla_exp.runs import RunFolder, cache_dir

# what Lightning's module calls the model
_PREFIX = "model."


@dataclass(frozen=True)
class LoadedRun(TrainedModel):
    """A run whose model can be used, on the device that was asked for."""

    folder: RunFolder
    vocab_size: int
    """Tokens are in [0, vocab_size); the model may have rows for more."""
    checkpoint: Path
    checkpoint_sha256: str
    step: int
    """Optimizer steps taken when the checkpoint was written."""


def load_run(run_dir: str | Path, checkpoint: str | Path = "last", *, device: torch.device | str = "cpu") -> LoadedRun:
    """Restore the model and the tokenizer of a run.

    Args:
        run_dir: the run's folder, `runs/<experiment>/<name>-<hash8>/seed<k>`.
        checkpoint: a name in its `checkpoints/` ("last"), or the path of a file.
        device: where the model goes.

    Raises:
        RunError: no such run or checkpoint, or one that cannot be read or is of another model. Nothing but tensors and
            plain values is read, so that a foreign file cannot run code.
        DataError: the run keeps no tokenizer, and its data cannot be opened to make it again.
    """
    folder = RunFolder(Path(run_dir))
    config = _read_config(folder)
    path = _find_checkpoint(folder, checkpoint)
    tokenizer = _read_tokenizer(folder, config)
    vocab_size = config.data.vocab_size if isinstance(config.data, MqarConfig) else _vocab_size(tokenizer)
    content = _read_checkpoint(path)
    model = build_model(config.model, vocab_size, config.seed)
    state = {name.removeprefix(_PREFIX): value for name, value in content["state_dict"].items()}
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        differences = "\n".join(line.strip() for line in str(error).splitlines()[1:])
        raise RunError(f"{path} is of another model than {folder.path / 'config.yaml'}:\n{differences}") from None
    return LoadedRun(
        folder=folder,
        config=config,
        model=model.to(device).eval(),
        tokenizer=tokenizer,
        vocab_size=vocab_size,
        checkpoint=path,
        checkpoint_sha256=_sha256(path),
        step=int(content["global_step"]),
    )


def _read_config(folder: RunFolder) -> RunConfig:
    if not folder.path.is_dir():
        raise RunError(f"run={folder.path}: there is no such folder{_runs_below(folder.path)}")
    resolved = folder.read_config()
    if resolved is None:
        raise RunError(f"run={folder.path} is no run: it has no config.yaml{_runs_below(folder.path)}")
    config, problems = to_typed(resolved)
    if config is None:
        lines = "\n".join(f"  - {problem.message}" for problem in problems)
        raise RunError(f"{folder.path / 'config.yaml'} is not a configuration of this version:\n{lines}")
    return config


def _runs_below(path: Path) -> str:
    """The end of a message that names runs under the nearest folder that exists."""
    nearest = next((place for place in (path, *path.parents) if place.is_dir()), path)
    found = sorted(file.parent for file in nearest.glob("*/config.yaml"))
    found += sorted(file.parent for pattern in ("*/*", "*/*/*") for file in nearest.glob(f"{pattern}/config.yaml"))
    if not found:
        return "; a run is a folder such as runs/default/rdn-full-mqar-1a2b3c4d/seed0"
    return f"; runs near it: {', '.join(str(run) for run in found[:3])}"


def _find_checkpoint(folder: RunFolder, checkpoint: str | Path) -> Path:
    direct = Path(checkpoint)
    named = folder.checkpoints / (f"{checkpoint}" if direct.suffix == ".ckpt" else f"{checkpoint}.ckpt")
    for path in (named, direct):
        if path.is_file():
            return path
    there = sorted(path.stem for path in folder.checkpoints.glob("*.ckpt"))
    status = folder.read_status()
    state = "" if status is None else f"; its status is {status.state}"
    known = f"there are {', '.join(there)}" if there else f"there is none{state}"
    raise RunError(f"checkpoint={checkpoint}: no such checkpoint in {folder.checkpoints}: {known}")


def _read_checkpoint(path: Path) -> dict[str, Any]:
    try:
        # mapped: the optimizer's state, most of the file, is never read
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        return {"state_dict": content["state_dict"], "global_step": content["global_step"]}
    except (OSError, RuntimeError, EOFError, KeyError, TypeError, pickle.UnpicklingError, zipfile.BadZipFile) as error:
        reason = str(error).strip().partition("\n")[0]
        raise RunError(f"cannot read checkpoint {path}: {type(error).__name__}: {reason}") from None


def _read_tokenizer(folder: RunFolder, config: RunConfig) -> Tokenizer | None:
    if isinstance(config.data, MqarConfig):
        return None
    if config.data.tokenizer == "bytes":
        return ByteTokenizer()
    if folder.tokenizer.is_dir():
        return load_subword(folder.tokenizer)
    # a run from before tokenizers were kept with runs
    data = build_data(config.data, seed=config.seed, cache_dir=cache_dir(config.paths))
    assert isinstance(data, TextData)
    return data.tokenizer


def _vocab_size(tokenizer: Tokenizer | None) -> int:
    assert tokenizer is not None
    return tokenizer.vocab_size


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
