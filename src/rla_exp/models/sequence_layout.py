"""Where each token stands: its position within its document, for rotary angles, convolution windows and masks."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True)
class SequenceLayout:
    """Positions of T tokens, the same in every row of a batch. Made once for a forward pass, and used by every layer.

    positions: [T] int64, tokens of the same document before this one (those already in a cache included).
    cu_seqlens: [N + 1] offsets of N packed documents in a batch of one row, or None: every row is one document.
    start: tokens of the document that a cache holds.
    """

    positions: Tensor
    cu_seqlens: Tensor | None = None
    start: int = 0

    @classmethod
    def consecutive(
        cls, length: int, *, start: int, device: torch.device, position: Tensor | None = None
    ) -> SequenceLayout:
        """`length` tokens that follow `start` earlier ones of the same document.

        position: [1] int64, the number `start` on the device; where given, positions are computed from it.
        """
        if position is not None:
            return cls(position + torch.arange(length, device=device), start=start)
        return cls(torch.arange(start, start + length, device=device), start=start)

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

    @cached_property
    def window(self) -> int:
        """The shortest W that divides T and at whose every multiple a document begins; T where nothing is packed.

        Packed tokens may be attended to as T / W rows of W tokens: no document reaches over a multiple of W. On a GPU
        the offsets are waited for.
        """
        length = self.positions.shape[0]
        if self.cu_seqlens is None:
            return length
        offsets = set(self.cu_seqlens.tolist())
        candidates = (offset for offset in sorted(offsets) if 0 < offset < length and length % offset == 0)
        return next((W for W in candidates if all(end in offsets for end in range(W, length, W))), length)

    @property
    def attention_mask(self) -> Tensor | None:
        """Which keys each query may see, bool, or None where a plain causal mask (or none, for one token) does.

        [T / W, 1, W, W] for the rows of packed tokens that `window` speaks of, else [T, start + T].
        """
        if self.cu_seqlens is None and (self.start == 0 or self.positions.shape[0] == 1):
            # not from the cached property, which torch.compile cannot trace
            return None
        return self._mask

    @cached_property
    def _mask(self) -> Tensor:
        W = self.window
        query = torch.arange(self.start, self.start + W, device=self.positions.device)
        key = torch.arange(self.start + W, device=query.device)
        causal = key <= query[:, None]
        if self.cu_seqlens is None:
            return causal
        # a token's document begins `position` tokens before it
        document_start = query - self.positions.view(-1, W)
        return (causal & (key >= document_start[..., None])).unsqueeze(1)
