"""The recurrent state of the operator."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class State(NamedTuple):
    """What a sequence leaves behind: the memory S and, where a residual is fitted, the second memory R.

    Both are [B, H, K, V] (with cu_seqlens [N, H, K, V]), float32, or float64 when the inputs are: the transposed of
    the paper's d_v x d_k, so that a read is k^T S. R is None when residual is "off".
    """

    S: Tensor
    R: Tensor | None
