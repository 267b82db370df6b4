"""Decays between any two places of a chunk, each the exponential of a masked sum of log decays."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor


@dataclass(frozen=True)
class Decays:
    """Products of decays within each chunk (docs/math.md, "Decays").

    With tokens 1..C and l = log a, each is exp of the sum of l over an interval: no factor exceeds 1 and nothing is
    divided. The sums over all intervals are one matrix product with a constant 0/1 matrix, never differences of longer
    sums, in which the gradients of strong decays would drown.
    """

    values: Tensor
    """[rows, C * C + 3 C + 1]: all of the following, side by side."""
    chunk: int
    """C."""

    @property
    def between(self) -> Tensor:
        """[rows, C, C]: what is left just before token t of what token i < t wrote, exp(l_{i+1} + .. + l_{t-1})."""
        return self.values[:, : self.chunk**2].view(-1, self.chunk, self.chunk)

    @property
    def own(self) -> Tensor:
        """[rows, C, 1]: a_t."""
        return self._column(0)

    @property
    def from_start(self) -> Tensor:
        """[rows, C, 1]: what is left just before token t of the state before the chunk, exp(l_1 + .. + l_{t-1})."""
        return self._column(1)

    @property
    def to_end(self) -> Tensor:
        """[rows, C, 1]: what is left after the chunk of what token i wrote, exp(l_{i+1} + .. + l_C)."""
        return self._column(2)

    @property
    def whole(self) -> Tensor:
        """[rows, 1, 1]: what is left after the chunk of the state before it, exp(l_1 + .. + l_C)."""
        return self.values[:, -1:].unsqueeze(-1)

    def _column(self, n: int) -> Tensor:
        start = self.chunk**2 + n * self.chunk
        return self.values[:, start : start + self.chunk].unsqueeze(-1)


def make_decays(log_decay: Tensor) -> Decays:
    """The decays of log_decay [rows, C]."""
    chunk = log_decay.shape[1]
    dtype = _product_dtype(log_decay)
    intervals, mask = _intervals(chunk, dtype, log_decay.device)
    values = torch.addmm(mask, log_decay.to(dtype), intervals).exp_()
    return Decays(values.to(log_decay.dtype), chunk)


def decays_backward(
    decays: Decays, pairs: Tensor, own: Tensor | None, from_start: Tensor, to_end: Tensor, whole: Tensor
) -> Tensor:
    """The gradient of log_decay [rows, C] from those of the decays.

    pairs [rows, C, C] is the gradient of `between` times `between` itself; the others are shaped as the decays.
    """
    square = decays.chunk**2
    exponents = torch.empty_like(decays.values, dtype=_product_dtype(decays.values))
    exponents[:, :square] = pairs.flatten(1)
    others = torch.cat((torch.zeros_like(to_end) if own is None else own, from_start, to_end, whole), dim=1)
    torch.mul(others.squeeze(-1), decays.values[:, square:], out=exponents[:, square:])
    intervals, _ = _intervals(decays.chunk, exponents.dtype, exponents.device)
    return (exponents @ intervals.T).to(decays.values.dtype)


def _product_dtype(x: Tensor) -> torch.dtype:
    """Of sums over intervals: on a GPU float32 products may be rounded to TF32, too coarse for them."""
    return torch.float64 if x.is_cuda else x.dtype


def causal_ones(chunk: int, like: Tensor) -> Tensor:
    """`Decays.between` where nothing decays, [C, C]."""
    return torch.ones(chunk, chunk, dtype=like.dtype, device=like.device).tril(-1)


@lru_cache(maxsize=16)
# kept for training too when made first in inference mode
@torch.inference_mode(False)
def _intervals(chunk: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """Which l_j each entry of Decays.values sums up, [C, C * C + 3 C + 1], and -inf for the pairs with i >= t."""
    j, t, i = torch.meshgrid(*[torch.arange(chunk, device=device)] * 3, indexing="ij")
    pairs, own, later = (i < j) & (j < t), (j == t)[:, :, 0], (j > t)[:, :, 0]
    parts = (pairs.flatten(1), own, ~(later | own), later, torch.ones_like(own[:, :1]))
    intervals = torch.cat(parts, dim=1).to(dtype)
    mask = torch.zeros(intervals.shape[1], dtype=dtype, device=device)
    mask[: chunk**2].masked_fill_((i >= t)[0].flatten(), -torch.inf)
    return intervals, mask
