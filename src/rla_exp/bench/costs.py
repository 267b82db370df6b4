"""Bytes and operations of each fused kernel, from shapes alone: what a roofline needs.

Counted per chunk of C tokens and head. Bytes: every tensor once a kernel, as if what several programs of a head read
came from memory a single time. Operations: products of matrices, a multiplication and an addition as two.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch

from rla_exp.bench.cases import OPTIONS, Op
from rla_exp.bench.chunk_sizes import FLOAT, ChunkSizes
from rla_exp.bench.limits import Limits
from rla_exp.kernels.options import Options
from rla_exp.kernels.triton.plan import CHECKPOINT_EVERY, MAX_EXACT_K, ROWS, Switches
from rla_exp.kernels.triton.tiles import BLOCK, chunk_size

HOPPER_COLUMNS = 64
"""Of V, that a program of the kernels for Hopper takes (hopper/layout.py, which cannot be imported without Triton)."""
IN_ONE = ("forward", "reverse", "gradients")
"""Passes that there is a kernel for Hopper for."""


@dataclass(frozen=True)
class Cost:
    """Of one kernel, a token and head."""

    kernel: str
    bytes: float
    flops: float

    def seconds(self, limits: Limits) -> float:
        """The least time: whichever of memory and tensor cores takes longer."""
        return max(self.bytes / limits.copy_gb_per_s / 1e9, self.flops / limits.matmul_tflop_per_s / 1e12)


def kernel_costs(
    op: Op, *, K: int = 128, V: int = 128, dtype: str = "bfloat16", gradients: bool, in_one: Collection[str] = ()
) -> list[Cost]:
    """Of the kernels of a forward pass, or with `gradients` of forward and backward, in the order they run.

    Args:
        in_one: of IN_ONE, the passes by the kernels for Hopper, in 16 bits with K = 128 and V = 64 or 128 (but for the
            gradients, 256). Triton's interpreter does not run these: their products are counted by hand, those of all
            others are compared with what the interpreter does.
    """
    on = Switches.of(Options(**OPTIONS[op]))
    width: torch.dtype = getattr(torch, dtype)
    C = chunk_size(width)
    size = ChunkSizes(K, V, C, width)
    kernels = [("inverses", _inverses(on, size))] if on.DELTA else []
    states = ("S", "R") if on.RESIDUAL else ("S",)
    if "forward" in in_one:
        kernels += [
            ("rows", _rows(on, size)),
            ("forward on Hopper", _forward_on_hopper(on, size, states, keep=gradients)),
        ]
    else:
        kernels.append(("prepare", _prepare(on, size, forward=True)))
        kernels += [(f"forward {state}", _forward(on, size, state, keep=gradients)) for state in states]
    if gradients:
        kernels += _backward(on, size, states[::-1], in_one)
    return [Cost(name, moved / C, operations / C) for name, (moved, operations) in kernels]


Chunk = tuple[float, float]
"""Bytes and operations."""


def _inverses(on: Switches, size: ChunkSizes) -> Chunk:
    # on the diagonal by halves, each step and its transposed; left of it sums of products, and one more
    products = 12 * size.blocks + sum((size.blocks - d) * (d + 1) for d in range(1, size.blocks))
    matrices = on.num_inverses + on.leaves_rest(size.dtype)
    moved = size.k + (2 + on.RESIDUAL) * size.row + matrices * size.matrix
    return moved, size.triangle + on.num_inverses * products * 2 * BLOCK**3


def _gates(on: Switches, size: ChunkSizes) -> int:
    """Bytes of the gates, read, and of what they become by row."""
    return (2 + on.RESIDUAL + ROWS - 1 + on.RESIDUAL) * size.row


def _rows(on: Switches, size: ChunkSizes) -> Chunk:
    # q and k for their norms alone
    return _gates(on, size) + on.NORMALIZE * 2 * size.k, 0


def _prepare(on: Switches, size: ChunkSizes, *, forward: bool) -> Chunk:
    # of the prediction's matrices also what rounding takes: by the delta rule of both operands, that of T_b is read
    exact = forward and on.exact(size.dtype)
    rest = forward and on.leaves_rest(size.dtype)
    products = on.DELTA * (1 + on.FIT + on.RESIDUAL + exact) + rest
    matrices = on.matrix_slots()["NUM_MATRICES"] + on.num_inverses + (rest or (exact and not on.DELTA))
    moved = 2 * size.k + _gates(on, size) + matrices * size.matrix
    return moved, (1 + on.FIT) * size.score + products * size.inner


def _predicts(on: Switches, state: str) -> bool:
    """Whether R is fed what is read of this state."""
    return on.FIT and state == "S"


def _forward(on: Switches, size: ChunkSizes, state: str, *, keep: bool) -> Chunk:
    predicts = _predicts(on, state)
    exact = on.exact(size.dtype)
    exact_writes = exact and (predicts or size.K <= MAX_EXACT_K)
    # value and o; r, or o once more
    tiles = 2 + predicts + (state == "R")
    matrices = 1 + on.DELTA + predicts + (exact and predicts and not on.DELTA)
    moved = 2 * size.k + tiles * size.v + 6 * size.row + matrices * size.matrix + keep * size.checkpoint
    return moved, (2 + (on.DELTA or predicts) + exact_writes) * size.through + matrices * size.mix


def _forward_on_hopper(on: Switches, size: ChunkSizes, states: Sequence[str], *, keep: bool) -> Chunk:
    # the warps of a state multiply as often as its own kernel: A_s U is as much as READ_S times what is written
    operations = sum(_forward(on, size, state, keep=keep)[1] for state in states)
    # scores, and by the delta rule PREDICT with what rounding takes, again for each block of V
    rest = on.leaves_rest(size.dtype)
    products = on.FIT * on.DELTA * 2 + rest
    operations += size.V // HOPPER_COLUMNS * ((1 + on.FIT) * size.score + products * size.inner)
    # v and o; r is written for the backward pass alone
    tiles = 2 + (keep and on.FIT)
    moved = 2 * size.k + tiles * size.v + ROWS * size.row + (on.num_inverses + rest) * size.matrix
    return moved + keep * len(states) * size.checkpoint, operations


def _replay(on: Switches, size: ChunkSizes, *, reads: bool) -> Chunk:
    moved = size.k + (1 + reads) * size.v + 3 * size.row + on.DELTA * size.matrix + size.checkpoint + size.state
    return moved, (1 + reads) * size.through + on.DELTA * size.mix


def _reverse(on: Switches, size: ChunkSizes, state: str) -> Chunk:
    predicts = _predicts(on, state)
    follows = on.RESIDUAL and state == "S"
    # do and the solved system; dv, and what goes back from R
    tiles = 2 + (state == "S") + follows
    matrices = 1 + on.DELTA + predicts
    moved = 2 * size.k + tiles * size.v + 6 * size.row + matrices * size.matrix + size.state
    return moved, (2 + (on.DELTA or predicts)) * size.through + matrices * size.mix


def _reverse_on_hopper(on: Switches, size: ChunkSizes, states: Sequence[str]) -> Chunk:
    # the warps of a state multiply as often as its own kernel: with A and N' before T, instead of all at once
    operations = sum(_reverse(on, size, state)[1] for state in states)
    # scores, again for each block of V
    operations += size.V // HOPPER_COLUMNS * (1 + on.FIT) * size.score
    # do and dv, r for where it was clipped, the solved systems
    tiles = 2 + on.CLIPPED + len(states)
    moved = 2 * size.k + tiles * size.v + ROWS * size.row + on.num_inverses * size.matrix
    return moved + len(states) * size.state, operations


def _backward(
    on: Switches, size: ChunkSizes, last_first: Sequence[str], in_one: Collection[str]
) -> list[tuple[str, Chunk]]:
    """The kernels of the backward pass."""

    def gradients(state: str) -> list[tuple[str, Chunk]]:
        if "gradients" in in_one:
            # it carries the state itself
            return [(f"gradients {state} on Hopper", _gradients_on_hopper(on, size, state))]
        replay = _replay(on, size, reads=on.DELTA or _predicts(on, state))
        return [(f"replay {state}", replay), (f"gradients {state}", _gradients(on, size, state))]

    if "reverse" in in_one:
        kernels = [("rows again", _rows(on, size)), ("reverse on Hopper", _reverse_on_hopper(on, size, last_first))]
        return kernels + [kernel for state in last_first for kernel in gradients(state)]
    kernels = [("prepare again", _prepare(on, size, forward=False))]
    for state in last_first:
        kernels += [(f"reverse {state}", _reverse(on, size, state)), *gradients(state)]
    return kernels


def _gradients(on: Switches, size: ChunkSizes, state: str) -> Chunk:
    predicts = _predicts(on, state)
    reads = on.DELTA or predicts
    adds = on.RESIDUAL and state == "S"
    # do, value, the solved system and what the state holds at k; what goes back from R to S; what is written
    tiles = 3 + reads + (predicts if state == "S" else on.RESIDUAL) + on.DELTA
    rows = 6 + 2 + adds
    moved = (4 + 2 * adds) * size.k + tiles * size.v + 2 * size.state + on.DELTA * size.matrix + rows * size.row
    mixes = 1 + 2 * on.DELTA + predicts
    return moved, (3 + reads) * size.through + mixes * size.mix + (3 + 3 * reads) * size.score


def _gradients_on_hopper(on: Switches, size: ChunkSizes, state: str) -> Chunk:
    predicts = _predicts(on, state)
    reads = on.DELTA or predicts
    adds = on.RESIDUAL and state == "S"
    # do, value, the solved system; what goes back from R to S
    tiles = 3 + on.FIT
    # what is added to is read and written
    moved = (4 + 2 * adds) * size.k + tiles * size.v + size.state + size.checkpoint + on.DELTA * size.matrix
    moved += (ROWS + 2 + adds) * size.row
    mixes = 1 + on.DELTA + predicts
    # what the state gets is multiplied with its gradient once, for dk and for what decays
    operations = (2 + on.DELTA + predicts) * size.through + mixes * size.mix + (3 + 3 * reads) * size.score
    # the state carried on; by the delta rule what it holds at k, too, and the system
    return moved, operations + (1 + on.DELTA) * size.through + on.DELTA * size.mix


@dataclass(frozen=True)
class Stored:
    """Something kept or made again, in bytes a token and head."""

    what: str
    bytes: float
    where: str
    """saved: from forward to backward. made again: of the forward pass, in the backward pass. scratch: what the
    backward pass alone has. The last two are there for a slice at a time, and for one state after the other (on Hopper
    for both, without C x C matrices, states before chunks, what these hold at k, and what is written)."""


def stored(op: Op, *, K: int = 128, V: int = 128, dtype: str = "bfloat16") -> list[Stored]:
    """What the passes store beside their operands and results."""
    on = Switches.of(Options(**OPTIONS[op]))
    width: torch.dtype = getattr(torch, dtype)
    C = chunk_size(width)
    size = ChunkSizes(K, V, C, width)
    states = 1 + on.RESIDUAL
    found = [
        ("r", on.FIT * size.v, "saved"),
        (f"states, float32, every {CHECKPOINT_EVERY} chunks", states * size.checkpoint, "saved"),
        ("inverted systems", on.num_inverses * size.matrix, "saved"),
        ("gates by row", ROWS * size.row, "made again"),
        ("C x C matrices", on.matrix_slots()["NUM_MATRICES"] * size.matrix, "made again"),
        ("a state before every chunk", size.state, "made again"),
        ("what it holds at k", (on.DELTA or on.FIT) * size.v, "made again"),
        ("its gradient after every chunk", size.state, "scratch"),
        ("solved systems", size.v, "scratch"),
        ("gradient of the prediction", on.RESIDUAL * size.v, "scratch"),
        ("what is written", on.DELTA * size.v, "scratch"),
    ]
    return [Stored(what, moved / C, where) for what, moved, where in found if moved]


def step_bytes(op: Op, B: int, H: int, K: int, V: int) -> int:
    """Read and written by a step: the states once, float32."""
    states = 1 + Switches.of(Options(**OPTIONS[op])).RESIDUAL
    return 2 * states * B * H * K * V * FLOAT


def floor_ms(
    op: Op, run: str, B: int, T: int, H: int, K: int, V: int, dtype: str, limits: Limits, *, in_one: Collection[str]
) -> float:
    """The least time of a row of ours: each kernel at the device's limits, one after the other."""
    if run == "step":
        return 1000 * step_bytes(op, B, H, K, V) / limits.copy_gb_per_s / 1e9
    costs = kernel_costs(op, K=K, V=V, dtype=dtype, gradients=run == "fwd+bwd", in_one=in_one)
    return 1000 * B * T * H * sum(cost.seconds(limits) for cost in costs)
