"""Initial values: each parameter is drawn from its own generator, seeded by (seed, name).

So models that share a parameter's name and shape share its value at equal seed: a baseline and the same model with a
residual differ in the residual alone, and seeds are paired across the rows of a table.
"""

from __future__ import annotations

import hashlib
from typing import Protocol, runtime_checkable

import torch
from torch import Generator, Tensor, nn


@runtime_checkable
class InitializesItself(Protocol):
    """A module whose own parameters are no plain matrices."""

    def initial_value(self, name: str, generator: Generator, /) -> Tensor:
        """The first value, on the CPU, of its parameter `name`."""
        ...


@torch.no_grad()
def initialize(model: nn.Module, *, std: float, embedding_std: float, seed: int) -> None:
    """Fill every parameter, equally on every device.

    Matrices are N(0, std^2), embeddings N(0, embedding_std^2), the others as their module says.
    """
    for module_name, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            full_name = f"{module_name}.{name}"
            generator = _generator(seed, full_name)
            parameter.copy_(draw(module, full_name, std=std, embedding_std=embedding_std, generator=generator))


def draw(module: nn.Module, name: str, *, std: float, embedding_std: float, generator: Generator) -> Tensor:
    """A first value, on the CPU, of a parameter that is the module's own; the last part of its name tells which."""
    if isinstance(module, InitializesItself):
        return module.initial_value(name.rpartition(".")[2], generator)
    if not isinstance(module, nn.Linear | nn.Embedding):
        raise TypeError(f"{name}: {type(module).__name__} does not say how it is initialized")
    scale = embedding_std if isinstance(module, nn.Embedding) else std
    return torch.empty(module.weight.shape, device="cpu").normal_(0.0, scale, generator=generator)


def _generator(seed: int, name: str) -> Generator:
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return torch.Generator("cpu").manual_seed(int.from_bytes(digest[:4], "big"))
