"""Tiles loaded by descriptor: one thread asks Hopper's copy engine (TMA) for a tile; else each works out addresses.

That frees the registers and instructions which addresses and masks take. A descriptor knows no sequences, so it serves
calls whose chunks are all whole (`tiles.may_describe`); other calls load by pointer.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

ALIGNMENT = 16
"""Bytes that the address of what is described is a multiple of."""


@dataclass(frozen=True)
class Loads:
    """What a kernel is given of the tensors that it loads: descriptors of its tiles, or the tensors as they are."""

    described: bool
    C: int
    BV: int

    def qk(self, x: Tensor) -> Tensor | TensorDescriptor:
        """q or k [tokens, H, K], loaded as [C, K] of a head."""
        return self._tokens(x, x.shape[-1])

    def values(self, x: Tensor) -> Tensor | TensorDescriptor:
        """[tokens, H, V], loaded as [C, BV] of a head."""
        return self._tokens(x, self.BV)

    def matrices(self, x: Tensor | None) -> Tensor | TensorDescriptor | None:
        """[.., C, C], loaded whole."""
        return self._blocks(x, self.C)

    def blocks(self, x: Tensor | None) -> Tensor | TensorDescriptor | None:
        """[.., rows, V], loaded as [rows, BV]."""
        return self._blocks(x, self.BV)

    def _tokens(self, x: Tensor, columns: int) -> Tensor | TensorDescriptor:
        H, D = x.shape[-2:]
        return self._describe(x, H * D, [self.C, columns]) if self.described else x

    def _blocks(self, x: Tensor | None, columns: int) -> Tensor | TensorDescriptor | None:
        if x is None or not self.described:
            return x
        rows, D = x.shape[-2:]
        return self._describe(x, D, [rows, columns])

    @staticmethod
    def _describe(x: Tensor, columns: int, tile: list[int]) -> TensorDescriptor:
        if x.data_ptr() % ALIGNMENT:
            x = x.clone()
        return TensorDescriptor(x, [x.numel() // columns, columns], [columns, 1], tile)
