"""Where a run is kept: its folder follows from its configuration, its corpus and the device it finds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rla_exp.config import Composed, identity
from rla_exp.config.schema import MqarConfig, TextConfig
from rla_exp.data import CorpusFingerprint, corpus_fingerprint
from rla_exp.errors import ConfigError
from rla_exp.kernels.selection import available_backends
from rla_exp.lit.device import DeviceType, choose_device
from rla_exp.runs import RunFolder, cache_dir

Fingerprint = Callable[[MqarConfig | TextConfig, Path], CorpusFingerprint | None]


@dataclass(frozen=True)
class Place:
    """A run's folder and what it was found by."""

    folder: RunFolder
    identity: str
    """64 hex digits."""
    device: DeviceType


def find_place(
    composed: Composed, fingerprint: Fingerprint = corpus_fingerprint, *, device: DeviceType | None = None
) -> Place:
    """The place of a run; nothing is made there.

    Args:
        fingerprint: identifies the corpus; a sweep passes one that remembers.
        device: what it will train on, on another machine; None: what `trainer.accelerator` comes to on this one.

    Raises:
        ConfigError: the settings cannot be on this machine.
        DataError: the corpus cannot be read.
    """
    config = composed.config
    if device is None:
        device = choose_device(config.trainer)
        available = available_backends(device)
        if config.model.backend not in available:
            there = f"is not there on this machine (available: {', '.join(available)})"
            raise ConfigError([f"model.backend={config.model.backend}: {there}"])
    corpus = fingerprint(config.data, cache_dir(config.paths))
    full = identity(
        composed.resolved,
        corpus_sha256=None if corpus is None else corpus.sha256,
        device_type=device,
        threads=config.trainer.threads,
    )
    return Place(RunFolder.of(config, full), full, device)
