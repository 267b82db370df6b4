"""How a call is laid out: chunks, slices of the backward pass, block sizes, scratch."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from rla_exp.kernels.options import Options

CHECKPOINT_EVERY = 16
"""Chunks between two stored states, and after which a pass over one state tells the pass over the other."""
ROWS = 12
"""Rows of the gates' buffer [chunks, H, ROWS, C], float32.

In this order: G_t, G_{t-1}, beta, gamma, 1/|k|, 1/|q| (1 where not normalized), and what scales: what a state holds at
k, exp(G_t) / |k|; its prediction, exp(G_{t-1}) / |k| (decayed: exp(G_t) / |k|); what it gets, exp(G_C - G_t) / |k|;
what o reads of S, scale exp(G_t) / |q| (sum: with G_{t-1}), and of R; and exp(G_C). Beyond a sequence's end G stays,
beta and gamma are 0.
"""
MAX_EXACT_K = 32
"""Up to here keys are so much alike that R, too, gets what rounding takes of its writes."""
SCRATCH_BYTES = 512 * 2**20
"""What the backward pass may take for states and matrices of chunks at a time; longer calls go in slices."""


@dataclass(frozen=True)
class Switches:
    """The options as the kernels take them, known when they are compiled."""

    DELTA: bool
    RESIDUAL: bool
    FIT: bool
    CLIPPED: bool
    SUM: bool
    DECAYED: bool
    NORMALIZE: bool

    @classmethod
    def of(cls, options: Options) -> Switches:
        """Those of a call."""
        fit = options.residual == "fit"
        return cls(
            DELTA=options.is_delta,
            RESIDUAL=options.has_residual,
            FIT=fit,
            CLIPPED=fit and options.clip is not None,
            SUM=options.output == "sum",
            DECAYED=options.decayed_prediction,
            NORMALIZE=options.normalize_qk,
        )

    def matrix_slots(self) -> dict[str, int]:
        """Where each of a chunk's matrices is stored, and how many there are; a matrix that is not needed: -1."""
        needed = {
            "AT_READ_S": True,
            "AT_PREDICT": self.FIT,
            "AT_READ_R": self.RESIDUAL,
        }
        slots, count = {}, 0
        for name, is_needed in needed.items():
            slots[name] = count if is_needed else -1
            count += is_needed
        return slots | {"NUM_MATRICES": count}

    def exact(self, dtype: torch.dtype) -> bool:
        """Whether the forward pass multiplies also what rounding takes of what decides a prediction."""
        return self.FIT and dtype != torch.float32

    def leaves_rest(self, dtype: torch.dtype) -> bool:
        """Whether it stores what rounding takes of S's inverted systems; in float16 that is no more than they err."""
        return self.DELTA and self.exact(dtype) and dtype == torch.bfloat16

    @property
    def num_inverses(self) -> int:
        """Triangular systems of a chunk: of S, and of R."""
        return self.DELTA * (1 + self.RESIDUAL)


@dataclass(frozen=True)
class Chunking:
    """Sequences in chunks of C tokens. Packed sequences have their chunks one after the other, each its own."""

    C: int
    num_sequences: int
    num_tokens: int
    """T of equal sequences, or of all packed ones."""
    cu_seqlens: Tensor | None
    cu_chunks: Tensor | None
    """[N + 1] chunks of the packed sequences before each."""
    table: Tensor | None
    """[num_chunks, 2] sequence and place in it of each chunk; -1 where there is none."""

    @property
    def chunks_per_sequence(self) -> int:
        """Of equal sequences; of packed ones, an upper bound of all chunks together."""
        if self.cu_seqlens is None:
            return -(-self.num_tokens // self.C)
        return self.num_tokens // self.C + self.num_sequences

    @property
    def num_checkpoints(self) -> int:
        """Rows that hold the checkpoints of all sequences."""
        return self.num_rows(self.chunks_per_sequence) // CHECKPOINT_EVERY + self.num_sequences

    def num_rows(self, chunks: int) -> int:
        """Rows of a buffer for `chunks` chunks of each sequence."""
        return chunks if self.cu_seqlens is not None else self.num_sequences * chunks

    def segments(self, length: int, most: int) -> tuple[int, int]:
        """(P, LP): into at most so many segments of LP chunks, the last perhaps shorter, a slice of `length` is cut.

        Between two segments lies a checkpoint.
        """
        if self.cu_seqlens is not None or most == 1:
            return 1, length
        chunks = -(-length // most)
        chunks = -(-chunks // CHECKPOINT_EVERY) * CHECKPOINT_EVERY
        return -(-length // chunks), chunks

    def slices(self, bytes_per_chunk: int) -> list[tuple[int, int]]:
        """(first chunk, chunks) of the slices that the backward pass works through, last first."""
        total = self.chunks_per_sequence
        if self.cu_seqlens is not None:
            return [(0, total)]
        pieces = math.ceil(self.num_sequences * total * bytes_per_chunk / SCRATCH_BYTES)
        length = -(-total // max(pieces, 1))
        length = -(-length // CHECKPOINT_EVERY) * CHECKPOINT_EVERY
        return [(first, min(length, total - first)) for first in range(0, total, length)][::-1]


def equal_chunking(num_sequences: int, num_tokens: int, C: int) -> Chunking:
    """B sequences of T tokens."""
    return Chunking(C, num_sequences, num_tokens, None, None, None)


def packed_chunking(cu_seqlens: Tensor, num_tokens: int, C: int) -> Chunking:
    """The sequences between the offsets [N + 1]; worked out where they lie, without waiting for their values."""
    cu_seqlens = cu_seqlens.long()
    N = len(cu_seqlens) - 1
    cu_chunks = torch.zeros_like(cu_seqlens)
    cu_chunks[1:] = torch.cumsum((cu_seqlens.diff() + C - 1) // C, 0)
    chunks = torch.arange(num_tokens // C + N, device=cu_seqlens.device)
    sequence = torch.searchsorted(cu_chunks[1:].contiguous(), chunks, right=True)
    known = sequence < N
    place = chunks - cu_chunks[sequence.clamp(max=N - 1)]
    table = torch.stack((torch.where(known, sequence, -1), place), 1).int()
    return Chunking(C, N, num_tokens, cu_seqlens, cu_chunks, table)


@functools.cache
def clip_bounds(clip: float, dtype: torch.dtype) -> tuple[float, float]:
    """The largest number of the dtype that is at most clip, and the next one: what a clipped r is stored as."""
    inside = torch.tensor(clip, dtype=torch.float64).to(dtype)
    if inside.double() > clip:
        inside = torch.nextafter(inside.cpu(), torch.zeros_like(inside))
    outside = torch.nextafter(inside, torch.full_like(inside, math.inf))
    return float(inside), float(outside)


def block_size(head_dim: int) -> int:
    """Columns of a tile that holds a whole head: a power of two, 16 at least."""
    return max(16, 1 << (head_dim - 1).bit_length())
