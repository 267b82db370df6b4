"""How tokens are laid out in chunks: from [B, T, H, D] to [chunks, C, D] and back."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Slab(NamedTuple):
    """The j-th chunks of all sequences that have one."""

    at: slice
    """Where they lie on the chunk axis."""
    rows: int
    """How many there are."""


@dataclass(frozen=True)
class Layout:
    """Sequences cut into chunks of C tokens, one row of the chunk axis for each (chunk, sequence, head).

    The chunk axis is ordered by the chunk's place in its sequence: first the first chunk of every sequence, then every
    second chunk, and so on: a slab each. Sequences stand longest first, so that those that still go on are the first
    rows of the state, and packed sequences cost the chunks that they have, however ragged they are.
    """

    chunk: int
    """C."""
    num_heads: int
    """H."""
    batch_size: int
    """B."""
    num_tokens: int
    """T."""
    rows: tuple[int, ...]
    """Rows of each slab: (sequences with a j-th chunk) x H, not increasing."""
    order: Tensor | None
    """[N] sequences, longest first; None where they are all of length T (no packing)."""
    token_of_slot: Tensor | None
    """[rows x C] token x H + head in each place of a row, T x H where there is none; None without packing."""
    slot_of_token: Tensor | None
    """[T x H] the inverse; None without packing."""

    @property
    def num_rows(self) -> int:
        """Length of the chunk axis."""
        return sum(self.rows)

    @property
    def num_state_rows(self) -> int:
        """N x H: rows of the state, also of sequences without a token."""
        return (self.batch_size if self.order is None else len(self.order)) * self.num_heads

    def slabs(self) -> list[Slab]:
        """The slabs in order."""
        starts = accumulate(self.rows, initial=0)
        return [Slab(slice(start, start + rows), rows) for start, rows in zip(starts, self.rows, strict=False)]

    def split(self, x: Tensor, out: Tensor | None = None) -> Tensor:
        """[B, T, H, ...] -> [rows, C, ...], zeros where a chunk has no token; into `out` where given."""
        B, T, H, *D = x.shape
        if self.token_of_slot is not None:
            # index_select copies rows; indexing, which does the same by element, takes six times as long on a CPU
            tokens = torch.cat((x[0].flatten(0, 1), x.new_zeros(1, *D)))
            rows = tokens.index_select(0, self.token_of_slot).view(-1, self.chunk, *D)
            return rows if out is None else out.copy_(rows)
        if T % self.chunk:
            x = F.pad(x, (0, 0) * (len(D) + 1) + (0, -T % self.chunk))
        x = x.reshape(B, -1, self.chunk, H, *D).movedim((1, 3), (0, 2))
        if out is None:
            return x.reshape(self.num_rows, self.chunk, *D)
        out.view(x.shape).copy_(x)
        return out

    def merge(self, y: Tensor) -> Tensor:
        """[rows, C, ...] -> [B, T, H, ...]."""
        B, H, D = self.batch_size, self.num_heads, y.shape[2:]
        if self.slot_of_token is not None:
            return y.flatten(0, 1).index_select(0, self.slot_of_token).view(B, -1, H, *D)
        y = y.view(-1, B, H, self.chunk, *D).movedim((0, 2), (1, 3)).reshape(B, -1, H, *D)
        return y[:, : self.num_tokens]

    def rows_of_states(self, S: Tensor) -> Tensor:
        """[N, H, K, V] -> [N x H, K, V], longest sequence first."""
        return (S if self.order is None else S.index_select(0, self.order)).flatten(0, 1)

    def states_of_rows(self, rows: Tensor) -> Tensor:
        """The inverse of rows_of_states."""
        S = rows.view(-1, self.num_heads, *rows.shape[1:])
        return S if self.order is None else S.index_select(0, self.order.argsort())


def uniform_layout(batch_size: int, num_tokens: int, num_heads: int, chunk: int) -> Layout:
    """B sequences of T tokens."""
    slabs = (batch_size * num_heads,) * -(-num_tokens // chunk)
    return Layout(chunk, num_heads, batch_size, num_tokens, slabs, None, None, None)


@lru_cache(maxsize=4)
# kept for training too when made first in inference mode
@torch.inference_mode(False)
def packed_layout(offsets: tuple[int, ...], num_heads: int, chunk: int, device: torch.device) -> Layout:
    """The sequences between the offsets; each has chunks of its own. Kept: all layers ask for the same."""
    lengths = torch.tensor(offsets).diff()
    chunks = (lengths + chunk - 1) // chunk
    order = torch.argsort(chunks, descending=True, stable=True)
    slabs = tuple(int((chunks > j).sum()) for j in range(int(chunks.max())))

    # chunk j of the sequence of rank n is the (slabs before j + n)-th
    first = torch.tensor((0, *slabs)).cumsum(0)
    num_tokens = offsets[-1]
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order))
    sequence = torch.repeat_interleave(torch.arange(len(lengths)), lengths)
    position = torch.arange(num_tokens) - torch.tensor(offsets)[sequence]
    row = (first[position // chunk] + rank[sequence]) * num_heads
    slot = (row * chunk + position % chunk).to(device)
    slot_of_token = (slot[:, None] + torch.arange(num_heads, device=device) * chunk).flatten()
    rows = tuple(count * num_heads for count in slabs)
    num_items = num_tokens * num_heads
    token_of_slot = torch.full((sum(rows) * chunk,), num_items, device=device)
    token_of_slot[slot_of_token] = torch.arange(num_items, device=device)
    return Layout(chunk, num_heads, 1, num_tokens, rows, order.to(device), token_of_slot, slot_of_token)
