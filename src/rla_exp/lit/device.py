"""What a run computes on, and how: device, threads, determinism."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch

from rla_exp.config.schema import TrainerConfig
from rla_exp.errors import ConfigError

DeviceType = Literal["cpu", "cuda"]


def choose_device(config: TrainerConfig) -> DeviceType:
    """The device type that `trainer.accelerator` comes to on this machine.

    Raises:
        ConfigError: a GPU is asked for and there is none, or something that the device cannot do.
    """
    problems = []
    has_gpu = torch.cuda.is_available()
    device: DeviceType = "cuda" if config.accelerator == "gpu" or (config.accelerator == "auto" and has_gpu) else "cpu"
    if device == "cuda" and not has_gpu:
        problems.append("trainer.accelerator=gpu: PyTorch sees no CUDA GPU here; use trainer=cpu, or mend the driver")
    if device == "cpu" and config.precision == "16-mixed":
        problems.append("trainer.precision=16-mixed: needs a GPU; on a CPU use 32 or bf16-mixed")
    if config.devices != 1:
        problems.append(f"trainer.devices={config.devices}: a run trains on one device so far; set trainer.devices=1")
    if problems:
        raise ConfigError(problems)
    return device


@contextmanager
def compute_settings(config: TrainerConfig) -> Iterator[None]:
    """Set PyTorch's threads and determinism, and put back afterwards what was there."""
    threads = torch.get_num_threads()
    deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    fill = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    benchmark = torch.backends.cudnn.benchmark
    if config.deterministic:
        # cuBLAS reads it when the first handle is made; without it, deterministic matrix products raise
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.backends.cudnn.benchmark = False
    torch.set_num_threads(config.threads)
    torch.use_deterministic_algorithms(config.deterministic)
    # filling every fresh tensor finds reads of uninitialized memory and costs a pass over it
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
        torch.utils.deterministic.fill_uninitialized_memory = fill  # type: ignore[attr-defined]
        torch.backends.cudnn.benchmark = benchmark
