"""Sizes of what a chunk of one head has, from which the costs of kernels are put together."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from rla_exp.kernels.triton.plan import CHECKPOINT_EVERY
from rla_exp.kernels.triton.tiles import BLOCK

FLOAT = 4
"""Bytes of a float32."""


@dataclass(frozen=True)
class ChunkSizes:
    """Of tensors in bytes, and of products in operations."""

    K: int
    V: int
    C: int
    dtype: torch.dtype

    @property
    def item(self) -> int:
        """Of one number."""
        return self.dtype.itemsize

    @property
    def k(self) -> int:
        """A tile of q or k."""
        return self.C * self.K * self.item

    @property
    def v(self) -> int:
        """A tile of v, o, r and of what is as wide."""
        return self.C * self.V * self.item

    @property
    def matrix(self) -> int:
        """C x C."""
        return self.C * self.C * self.item

    @property
    def row(self) -> int:
        """A float32 for each token."""
        return self.C * FLOAT

    @property
    def state(self) -> int:
        """K x V as the backward pass stores it."""
        return self.K * self.V * self.item

    @property
    def checkpoint(self) -> float:
        """A float32 state's share of a chunk."""
        return self.K * self.V * FLOAT / CHECKPOINT_EVERY

    @property
    def through(self) -> int:
        """Operations of a product with a state."""
        return 2 * self.C * self.K * self.V

    @property
    def mix(self) -> int:
        """Operations of a C x C matrix with a tile of v."""
        return 2 * self.C * self.C * self.V

    @property
    def score(self) -> int:
        """Operations of a C x C product of tiles of q and k, or of such a matrix with one."""
        return 2 * self.C * self.C * self.K

    @property
    def blocks(self) -> int:
        """Into which a chunk is taken apart where its system is inverted."""
        return self.C // BLOCK

    @property
    def triangle(self) -> int:
        """Operations of a product of tiles of q and k, blocks above the diagonal left out."""
        return self.blocks * (self.blocks + 1) // 2 * 2 * BLOCK**2 * self.K

    @property
    def inner(self) -> int:
        """Operations of C x C with C x C."""
        return 2 * self.C**3
