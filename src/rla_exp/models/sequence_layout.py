"""Where each token stands: its position within its document, for rotary angles, convolution windows and masks."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class SequenceLayout:
    """Positions of T tokens, the same in every row of a batch.

    positions: [T] int64, tokens of the same document before this one (those already in a cache included).
    cu_seqlens: [N + 1] offsets of N packed documents in a batch of one row, or None: every row is one document.
    """

    positions: Tensor
    cu_seqlens: Tensor | None = None

    @classmethod
    def consecutive(cls, length: int, *, start: int, device: torch.device) -> SequenceLayout:
        """`length` tokens that follow `start` earlier ones of the same document."""
        return cls(torch.arange(start, start + length, device=device))

    @classmethod
    def packed(cls, length: int, cu_seqlens: Tensor) -> SequenceLayout:
        """Documents one after the other on the T axis; document n covers tokens cu_seqlens[n] to cu_seqlens[n + 1].

        Raises ValueError where the offsets are no integer vector, or (on a CPU, where looking costs nothing) where
        they do not run from 0 to `length`.
        """
        if cu_seqlens.ndim != 1 or cu_seqlens.numel() < 2 or cu_seqlens.dtype not in (torch.int32, torch.int64):
            raise ValueError(
                f"cu_seqlens must be an int32 or int64 vector of at least 2 offsets, "
                f"got {cu_seqlens.dtype} of shape {tuple(cu_seqlens.shape)}"
            )
        if cu_seqlens.device.type == "cpu" and (cu_seqlens[0] != 0 or cu_seqlens[-1] != length):
            raise ValueError(
                f"cu_seqlens must run from 0 to the number of tokens, {length}; "
                f"got {int(cu_seqlens[0])} to {int(cu_seqlens[-1])}"
            )
        index = torch.arange(length, device=cu_seqlens.device)
        document = torch.searchsorted(cu_seqlens, index, right=True) - 1
        return cls(index - cu_seqlens[document], cu_seqlens)
