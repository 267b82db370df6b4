"""A decoding state in a safetensors file, so that a long prompt is read once."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from rla_exp.errors import RunError
from rla_exp.generation.reading import LAST_KEPT, DecodingState
from rla_exp.models import LanguageModel
from rla_exp.models.cache import KeyValueCache
from rla_exp.models.sequence_layout import SequenceLayout
from rla_exp.runs.files import remove_quietly

_FORMAT = "rla_exp decoding state 2"
# values of each parameter that tell models apart
_TOLD_APART_BY = 64


def save_state(state: DecodingState, path: Path, model: LanguageModel) -> None:
    """Write the state of a prompt that `model` has read; the file at `path` is replaced when all of it is written.

    Raises:
        RunError: the file cannot be written.
    """
    tensors = {**state.cache.tensors(), "logits": state.logits, "seen": state.seen, "last": state.last}
    if state.cache.lengths is not None:
        tensors["lengths"] = state.cache.lengths
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    metadata = {"format": _FORMAT, "model": _fingerprint(model), "length": str(state.cache.length)}
    try:
        save_file({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}, temporary, metadata)
        temporary.replace(path)
    except (OSError, SafetensorError) as error:
        remove_quietly(temporary)
        raise RunError(f"cannot write the state to {path}: {error}; choose another file or free space") from error


@torch.no_grad()
def load_state(path: Path, model: LanguageModel) -> DecodingState:
    """The state in a file, on the model's device. Safetensors hold numbers only: nothing of the file is run.

    Raises:
        RunError: there is no such file, it is damaged, or it was written by another model.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    except (OSError, SafetensorError) as error:
        raise RunError(f"cannot read the state {path}: {error}") from error
    if metadata.get("format") != _FORMAT or not metadata.get("length", "").isdecimal():
        raise RunError(f"{path} is no decoding state of this version of rla_exp; have the prompt read again")
    if metadata.get("model") != _fingerprint(model):
        raise RunError(f"{path} was written by another model or other parameters; have this model read the prompt")
    return _restored(path, tensors, int(metadata["length"]), model)


def _restored(path: Path, tensors: dict[str, Tensor], length: int, model: LanguageModel) -> DecodingState:
    # the state itself tells its number of rows; without logits it is refused anyway
    num_rows = len(tensors["logits"]) if "logits" in tensors and tensors["logits"].ndim == 2 else 1
    cache = model.new_cache(num_rows)
    weight = model.embedding.weight
    rows = torch.empty(num_rows, model.vocab_size, dtype=weight.dtype, device=weight.device)
    expected = {**cache.tensors(), "logits": rows, "seen": rows.bool()}
    expected["last"] = torch.empty(num_rows, LAST_KEPT, dtype=torch.int64)
    if "lengths" in tensors:
        expected["lengths"] = torch.empty(num_rows, dtype=torch.int64)
    differing = [
        name
        for name in sorted(expected.keys() | tensors.keys())
        if name not in tensors or name not in expected or not _fits(tensors[name], expected[name], name, length)
    ]
    if differing:
        raise RunError(f"{path} is damaged: {', '.join(differing)} do not fit the model; have the prompt read again")
    found = {name: tensor.to(weight.device) for name, tensor in tensors.items()}
    everything = SequenceLayout.consecutive(length, start=0, device=weight.device)
    for index, layer in enumerate(cache.layers):
        if isinstance(layer, KeyValueCache):
            layer.append(found[f"layers.{index}.keys"], found[f"layers.{index}.values"], everything)
        else:
            for name, tensor in layer.tensors().items():
                tensor.copy_(found[f"layers.{index}.{name}"])
    cache.length, cache.lengths = length, found.get("lengths")
    return DecodingState(cache, found["logits"], found["seen"], found["last"])


def _fits(found: Tensor, expected: Tensor, name: str, length: int) -> bool:
    shape = list(expected.shape)
    if name.endswith((".keys", ".values")):
        shape[2] = length
    return list(found.shape) == shape and found.dtype == expected.dtype


def _fingerprint(model: LanguageModel) -> str:
    """Of the configuration and of the first values of every parameter, which any training changes."""
    config = {**asdict(model.config), "backend": None, "vocab_size": model.vocab_size}
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode())
    values = [parameter.detach().flatten()[:_TOLD_APART_BY].float() for parameter in model.parameters()]
    digest.update(torch.cat(values).cpu().numpy().tobytes())
    return digest.hexdigest()
