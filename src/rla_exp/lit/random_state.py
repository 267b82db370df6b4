"""The random number generators of a process: seeded, saved and restored."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from rla_exp.lit.device import DeviceType


def seed_all(seed: int) -> None:
    """Seed Python, NumPy and PyTorch on every device."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def random_state(device: DeviceType) -> dict[str, Any]:
    """The states of all generators that a run on `device` can draw from.

    As tensors and plain values, which `torch.load(weights_only=True)` takes.
    """
    numpy: Any = np.random.get_state(legacy=True)
    name, keys, position, has_gauss, gauss = numpy
    return {
        "python": random.getstate(),
        "numpy": (name, torch.from_numpy(keys.astype(np.int64)), position, has_gauss, gauss),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if device == "cuda" else None,
    }


def restore_random_state(state: dict[str, Any]) -> None:
    """The inverse of `random_state`."""
    random.setstate(state["python"])
    name, keys, position, has_gauss, gauss = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, gauss))
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None:
        torch.cuda.set_rng_state(state["cuda"])


class RandomState(Callback):
    """Keeps the generators in checkpoints; restores them right before the first step, when nothing else draws."""

    def __init__(self, device: DeviceType) -> None:
        self._device: DeviceType = device
        self._restored: dict[str, Any] | None = None

    def state_dict(self) -> dict[str, Any]:
        return random_state(self._device)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._restored = state_dict

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._restored is not None:
            restore_random_state(self._restored)
            self._restored = None
