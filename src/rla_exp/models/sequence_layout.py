"""Where each token stands: its position within its document, for rotary angles, convolution windows and masks."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True)
class SequenceLayout:
    """Positions of T tokens in every row of a batch. Made once for a forward pass, and used by every layer.

    positions: int64, tokens of the same document before this one (those already in a cache included): [T], or [B, T]
        where a cache's rows have seen different numbers of tokens.
    cu_seqlens: [N + 1] offsets of N packed documents in a batch of one row, or None: every row is one document.
    start: tokens that a cache holds of the document of which it holds most.
    starts: [B] or [N] int64, of each row or packed document; None: `start` of all.
    """

    positions: Tensor
    cu_seqlens: Tensor | None = None
    start: int = 0
    starts: Tensor | None = None

    @classmethod
    def consecutive(
        cls, length: int, *, start: int, device: torch.device, starts: Tensor | None = None
    ) -> SequenceLayout:
        """`length` tokens in each row, which follow `start` (of each row: starts [B]) earlier ones of its document."""
        index = torch.arange(length, device=device)
        return cls(index + (start if starts is None else starts[:, None]), start=start, starts=starts)

    @classmethod
    def packed(cls, length: int, cu_seqlens: Tensor, *, start: int = 0, starts: Tensor | None = None) -> SequenceLayout:
        """Documents one after the other on the T axis; document n covers tokens cu_seqlens[n] to cu_seqlens[n + 1] and
        follows `start` (each document: starts [N]) earlier ones.

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
        first = start - cu_seqlens if starts is None else starts - cu_seqlens[:-1]
        return cls(index + first[document], cu_seqlens, start, starts)

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

    @cached_property
    def rows(self) -> PaddedRows:
        """Packed documents as rows of a batch, for attention to a cache. On a GPU the offsets are waited for."""
        assert self.cu_seqlens is not None
        lengths = self.cu_seqlens.diff()
        document = torch.repeat_interleave(lengths)
        place = torch.arange(len(document), device=document.device) - self.cu_seqlens[document]
        longest = int(lengths.max())
        layout = SequenceLayout.consecutive(longest, start=self.start, device=document.device, starts=self.starts)
        return PaddedRows(layout, len(lengths), document, place)

    @property
    def attention_mask(self) -> Tensor | None:
        """Which keys each query may see, bool, or None where a plain causal mask (or none, for one token) does.

        [T / W, 1, W, W] for the rows of packed tokens that `window` speaks of, else [T, start + T], or
        [B, 1, T, start + T] where rows differ in what they have seen.
        """
        if self.cu_seqlens is None and self.starts is None and (self.start == 0 or self.positions.shape[0] == 1):
            # not from the cached property, which torch.compile cannot trace
            return None
        return self._mask

    @cached_property
    def _mask(self) -> Tensor:
        if self.starts is not None:
            key = torch.arange(self.start + self.positions.shape[1], device=self.positions.device)
            return key <= self.positions[:, None, :, None]
        W = self.window
        query = torch.arange(self.start, self.start + W, device=self.positions.device)
        key = torch.arange(self.start + W, device=query.device)
        causal = key <= query[:, None]
        if self.cu_seqlens is None:
            return causal
        # a token's document begins `position` tokens before it
        document_start = query - self.positions.view(-1, W)
        return (causal & (key >= document_start[..., None])).unsqueeze(1)


@dataclass(frozen=True)
class PaddedRows:
    """N packed documents as N rows, each with empty places behind its end.

    Attention alone may have them: a causal mask hides what stands behind a token, and nothing goes on from there.
    """

    layout: SequenceLayout
    """Of the rows."""
    num_rows: int
    document: Tensor
    """[T] which row a token is in."""
    place: Tensor
    """[T] and where."""

    def split(self, x: Tensor) -> Tensor:
        """[1, heads, T, D] -> [N, heads, longest, D], zeros in empty places."""
        rows = x.new_zeros(self.num_rows, self.layout.positions.shape[-1], x.shape[1], x.shape[3])
        rows[self.document, self.place] = x[0].transpose(0, 1)
        return rows.transpose(1, 2)

    def merge(self, rows: Tensor) -> Tensor:
        """The inverse."""
        return rows.transpose(1, 2)[self.document, self.place].transpose(0, 1).unsqueeze(0)
