"""One call of the operator as its kernels see it: tensors, switches, tiles, chunks."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rla_exp.kernels.options import Options
from rla_exp.kernels.triton.descriptors import Loads
from rla_exp.kernels.triton.plan import (
    ROWS,
    Chunking,
    Switches,
    block_size,
    clip_bounds,
    equal_chunking,
    packed_chunking,
)
from rla_exp.kernels.triton.tiles import Tile, Tiles, choose_tiles, gpu_of, may_describe


class Operands(NamedTuple):
    """The tensors of a call as the kernels take them: contiguous, q, k, v of one dtype, gates float32."""

    q: Tensor  # [B, T, H, K]
    k: Tensor  # [B, T, H, K]
    v: Tensor  # [B, T, H, V]
    g: Tensor  # [B, T, H]
    beta: Tensor  # [B, T, H]
    gamma: Tensor | None  # [B, T, H]
    cu_seqlens: Tensor | None  # [N + 1]

    @property
    def num_sequences(self) -> int:
        """N: sequences with a state of their own."""
        return self.q.shape[0] if self.cu_seqlens is None else self.cu_seqlens.shape[0] - 1


class Saved(NamedTuple):
    """What the backward pass needs beside the operands."""

    r: Tensor | None
    """[B, T, H, V] of residual "fit": r in v's dtype; where it was clipped, the next number beyond the bound."""
    S: Tensor | None
    """[checkpoints, H, K, V] float32: S before every CHECKPOINT_EVERY-th chunk."""
    R: Tensor | None
    inverses: Tensor | None
    """[chunks, H, 1 or 2, C, C] of the delta rule: the inverted systems of S and of R."""


class Carried(NamedTuple):
    """What a pass over a state begins with, ends with and leaves. A chain is a sequence, or a segment of one."""

    initial: Tensor | None
    """[chains, H, K, V] float32; None: zero."""
    final: Tensor
    """Likewise."""
    checkpoints: Tensor | None
    """As in `Saved`; None: nothing is left."""


class Buffers(NamedTuple):
    """Of a slice's chunks, what the passes over a state's gradient leave for the gradients of q, k and the gates."""

    after: Tensor  # [chunks, H, K, V]
    solved: Tensor  # [chunks, H, C, V]


class Replayed(NamedTuple):
    """Of a slice's chunks, what is recomputed of a state where the gradients' kernel does not do it itself."""

    before: Tensor  # [chunks, H, K, V]
    reads: Tensor | None  # [chunks, H, C, V], what the state holds at k


class Gradients(NamedTuple):
    """In the shapes of the operands; the gates' in float32."""

    q: Tensor
    k: Tensor
    v: Tensor
    g: Tensor
    beta: Tensor
    gamma: Tensor | None
    S: Tensor
    R: Tensor | None


@dataclass(frozen=True)
class Call:
    """What all kernels of a call share."""

    x: Operands
    switches: Switches
    tiles: Tiles
    chunking: Chunking
    scale: float
    clip: float | None

    @classmethod
    def of(cls, x: Operands, options: Options, tiles: Tiles | None = None) -> Call:
        """Lay out a call; `tiles` overrides the usual choice."""
        B, T = x.q.shape[:2]
        K = x.q.shape[-1]
        switches = Switches.of(options)
        tiles = tiles or usual_tiles(x, switches)
        if x.cu_seqlens is None:
            chunking = equal_chunking(B, T, tiles.C)
        else:
            chunking = packed_chunking(x.cu_seqlens, T, tiles.C)
        scale = options.query_scale(K)
        return cls(x, switches, tiles, chunking, scale, options.clip)

    @property
    def num_heads(self) -> int:
        """H."""
        return self.x.q.shape[2]

    @property
    def state_shape(self) -> tuple[int, int, int, int]:
        """[N, H, K, V]."""
        return self.chunking.num_sequences, self.num_heads, self.x.q.shape[-1], self.x.v.shape[-1]

    @property
    def clip_bounds(self) -> tuple[float, float, float]:
        """clip, the largest stored number within it, and the one stored for what is beyond; zeros without a clip."""
        if not self.switches.CLIPPED:
            return 0.0, 0.0, 0.0
        assert self.clip is not None
        return self.clip, *clip_bounds(self.clip, self.x.q.dtype)

    @property
    def precision(self) -> str:
        """Of products: exact in float32, and of no meaning in 16 bits."""
        return "ieee" if self.x.q.dtype == torch.float32 else "tf32"

    def places(self, *, second: bool) -> dict[str, Any]:
        """Which state a pass carries, S or (second) R, and where its matrices are."""
        slots = self.switches.matrix_slots()
        return {
            "SECOND": second,
            "AT_READ": slots["AT_READ_R" if second else "AT_READ_S"],
            "AT_PREDICT": slots["AT_PREDICT"],
            "NUM_MATRICES": slots["NUM_MATRICES"],
        }

    def constants(self, gates: tuple[str, ...]) -> dict[str, Any]:
        """Compile-time arguments: sizes, precision, the matrices' places and the switches named."""
        K, V = self.x.q.shape[-1], self.x.v.shape[-1]
        switches = {name: value for name, value in asdict(self.switches).items() if name in gates}
        return {
            "K": K,
            "V": V,
            "C": self.tiles.C,
            "BK": block_size(K),
            "ROWS": ROWS,
            "VARLEN": self.chunking.cu_seqlens is not None,
            "PRECISION": self.precision,
            "enable_fp_fusion": True,
            **switches,
        }

    def slice(self, start: int, length: int) -> tuple[Tensor | None, Tensor | None, int, int, int, int]:
        """The arguments of a kernel over all chunks of a slice: where its chunks lie, and H."""
        chunking = self.chunking
        return chunking.cu_seqlens, chunking.table, chunking.num_tokens, start, length, self.num_heads

    def loads(self, tile: Tile, *, effect: bool = False) -> Loads:
        """What a kernel of this tile is given to load. What a segment does (effect) needs masks: it has no values."""
        return Loads(tile.described and not effect, self.tiles.C, tile.BV)

    def blocks(self, BV: int) -> int:
        """Programs that share a head's columns."""
        return -(-self.x.v.shape[-1] // BV)


def usual_tiles(x: Operands, switches: Switches) -> Tiles:
    """Those of a call's shape, on its GPU, with Triton's ptxas."""
    K, V = x.q.shape[-1], x.v.shape[-1]
    num_tokens = x.q.shape[1] if x.cu_seqlens is None else 0
    return choose_tiles(
        x.q.dtype,
        block_size(K),
        block_size(V),
        delta=switches.DELTA,
        predicted=switches.FIT,
        num_heads=x.num_sequences * x.q.shape[2],
        num_tokens=num_tokens,
        describable=may_describe(x.q.dtype, K=K, V=V, num_tokens=num_tokens),
        gpu=gpu_of(x.q.device),
    )
