"""Bytes and operations of each fused kernel, from shapes alone: what a roofline needs.

Counted per chunk of C tokens and head. Bytes: every tensor once, as if what several programs of a head read came from
memory a single time. Operations: products of matrices, a multiplication and an addition as two; those with an inverse
run in tf32, at half the speed of 16-bit products, and count twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from rla_exp.bench.cases import OPTIONS, Op
from rla_exp.bench.limits import Limits
from rla_exp.kernels.options import Options
from rla_exp.kernels.triton.plan import CHECKPOINT_EVERY, Switches
from rla_exp.kernels.triton.tiles import chunk_size

FLOAT = 4
"""Bytes of a float32."""


@dataclass(frozen=True)
class Cost:
    """Of one kernel, a token and head."""

    kernel: str
    bytes: float
    flops: float

    def seconds(self, limits: Limits) -> float:
        """The least time: whichever of memory and tensor cores takes longer."""
        return max(self.bytes / limits.copy_gb_per_s / 1e9, self.flops / limits.matmul_tflop_per_s / 1e12)


@dataclass(frozen=True)
class _Sizes:
    """Of a chunk, in bytes and operations."""

    K: int
    V: int
    C: int
    item: int

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
    def inner(self) -> int:
        """Operations of C x C with C x C, in tf32."""
        return 2 * 2 * self.C**3


def kernel_costs(op: Op, *, K: int = 128, V: int = 128, dtype: str = "bfloat16", gradients: bool) -> list[Cost]:
    """Of the kernels of a forward pass, or with `gradients` of forward and backward, in the order they run."""
    on = Switches.of(Options(**OPTIONS[op]))
    width: torch.dtype = getattr(torch, dtype)
    C = chunk_size(width)
    size = _Sizes(K, V, C, width.itemsize)
    kernels = [("prepare", _prepare(on, size)), ("forward", _forward(on, size, keep=gradients))]
    if gradients:
        kernels += [
            ("prepare again", _prepare(on, size)),
            *((f"replay {memory}", cost) for memory, cost in _replay(on, size)),
            ("reverse", _reverse(on, size)),
            ("scores", _scores(on, size)),
            ("gradients", _gradients(on, size)),
        ]
    return [Cost(name, moved / C, operations / C) for name, (moved, operations) in kernels]


Chunk = tuple[float, float]
"""Bytes and operations."""


def _prepare(on: Switches, size: _Sizes) -> Chunk:
    inverses = on.DELTA * (1 + on.RESIDUAL)
    # each level of merging is two products; blocks of 16 rows are inverted without any
    merges = inverses * 2 * (2 if size.C > 32 else 1)
    products = on.DELTA * (1 + on.FIT + on.RESIDUAL)
    gates_in, rows_out = 2 + on.RESIDUAL, 5 + on.RESIDUAL
    matrices = on.matrix_slots()["NUM_MATRICES"] * size.matrix
    moved = 2 * size.k + (gates_in + rows_out) * size.row + matrices
    return moved, (1 + (on.DELTA or on.FIT)) * size.score + (merges + products) * size.inner


def _forward(on: Switches, size: _Sizes, *, keep: bool) -> Chunk:
    reads_k = on.DELTA or on.FIT
    states = 1 + on.RESIDUAL
    matrices = on.matrix_slots()["NUM_MATRICES"] * size.matrix
    moved: float = 2 * size.k + 2 * size.v + (5 + on.RESIDUAL) * size.row + matrices
    if keep:
        moved += on.FIT * size.v + states * size.checkpoint
    through = 2 * states + reads_k + (on.DELTA and on.RESIDUAL)
    mixes = states + on.DELTA * states + on.FIT
    return moved, through * size.through + mixes * size.mix


def _replay(on: Switches, size: _Sizes) -> Iterator[tuple[str, Chunk]]:
    for memory, reads in (("S", on.DELTA or on.FIT), ("R", on.DELTA)):
        if memory == "R" and not on.RESIDUAL:
            continue
        moved = size.k + (1 + reads) * size.v + 3 * size.row + on.DELTA * size.matrix + size.checkpoint + size.state
        yield memory, (moved, (1 + reads) * size.through + on.DELTA * size.mix)


def _reverse(on: Switches, size: _Sizes) -> Chunk:
    states = 1 + on.RESIDUAL
    matrices = on.matrix_slots()["NUM_MATRICES"] * size.matrix
    moved = 2 * size.k + (1 + on.CLIPPED) * size.v + (5 + on.RESIDUAL) * size.row + matrices
    moved += states * (size.state + size.v)
    through = 2 * states + (on.DELTA or on.FIT) + (on.DELTA and on.RESIDUAL)
    mixes = states + on.DELTA * states + on.FIT
    return moved, through * size.through + mixes * size.mix


def _scores(on: Switches, size: _Sizes) -> Chunk:
    reads_k = on.DELTA or on.FIT
    states = 1 + on.RESIDUAL
    # read: v, do, r, the solved systems, S k and R k; written: dv, U, W and the gradients of S k and R k
    tiles_in = 2 + on.FIT + states + reads_k + (on.DELTA and on.RESIDUAL)
    tiles_out = 1 + states + reads_k + (on.DELTA and on.RESIDUAL)
    matrices = on.DELTA * states + 1 + reads_k
    rows = 5 + on.RESIDUAL + 2 + states
    moved = 2 * size.k + (tiles_in + tiles_out) * size.v + matrices * size.matrix + rows * size.row
    mixes = states + 2 * on.DELTA * states + on.FIT
    return moved, mixes * size.mix + (1 + reads_k) * size.score


def _gradients(on: Switches, size: _Sizes) -> Chunk:
    reads_k = on.DELTA or on.FIT
    states = 1 + on.RESIDUAL
    tiles = 1 + states + reads_k + (on.DELTA and on.RESIDUAL)
    rows = 5 + on.RESIDUAL + 2 + 1 + 2 * on.RESIDUAL
    moved = 4 * size.k + tiles * size.v + 2 * states * size.state + (1 + reads_k) * size.matrix + rows * size.row
    through = 2 * states + reads_k + (on.DELTA and on.RESIDUAL)
    return moved, through * size.through + (2 + 2 * reads_k) * size.score


@dataclass(frozen=True)
class Stored:
    """Something kept or made again, in bytes a token and head."""

    what: str
    bytes: float
    where: str
    """saved: from forward to backward. made again: of the forward pass, in the backward pass. scratch: what the
    backward pass alone has. The last two are there for a slice at a time."""


def stored(op: Op, *, K: int = 128, V: int = 128, dtype: str = "bfloat16") -> list[Stored]:
    """What the passes store beside their operands and results."""
    on = Switches.of(Options(**OPTIONS[op]))
    width: torch.dtype = getattr(torch, dtype)
    C = chunk_size(width)
    size = _Sizes(K, V, C, width.itemsize)
    states = 1 + on.RESIDUAL
    found = [
        ("r", on.FIT * size.v, "saved"),
        (f"states, float32, every {CHECKPOINT_EVERY} chunks", states * size.checkpoint, "saved"),
        ("gates by row", 8 * size.row, "made again"),
        ("C x C matrices", on.matrix_slots()["NUM_MATRICES"] * size.matrix, "made again"),
        ("states before every chunk", states * size.state, "made again"),
        ("S k and R k, later what was written", states * size.v, "made again"),
        ("gradients of the states after every chunk", states * size.state, "scratch"),
        ("solved systems", states * size.v, "scratch"),
    ]
    return [Stored(what, moved / C, where) for what, moved, where in found if moved]


def step_bytes(op: Op, B: int, H: int, K: int, V: int) -> int:
    """Read and written by a step: the states once, float32."""
    states = 1 + Switches.of(Options(**OPTIONS[op])).RESIDUAL
    return 2 * states * B * H * K * V * FLOAT


def floor_ms(op: Op, run: str, B: int, T: int, H: int, K: int, V: int, dtype: str, limits: Limits) -> float:
    """The least time of a row of ours: each kernel at the device's limits, one after the other."""
    if run == "step":
        return 1000 * step_bytes(op, B, H, K, V) / limits.copy_gb_per_s / 1e9
    costs = kernel_costs(op, K=K, V=V, dtype=dtype, gradients=run == "fwd+bwd")
    return 1000 * B * T * H * sum(cost.seconds(limits) for cost in costs)
