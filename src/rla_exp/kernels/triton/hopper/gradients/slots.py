"""What the gradients' kernel has in shared memory, and asking the copy engine for it.

All tiles are [64, 64]: two make q or k of a chunk, V // 64 its values or 64 rows of a state. Each has a place of its
own, k has two, and is asked for as soon as the chunk before is done with it.
"""

# tuples are unpacked whole
# ruff: noqa: RUF059
import triton.experimental.gluon.language as gl
from triton.experimental import gluon
from triton.experimental.gluon.language.nvidia.hopper import mbarrier

from rla_exp.kernels.triton.hopper.copies import load_async
from rla_exp.kernels.triton.hopper.layout import C, K

HALVES = gl.constexpr(2)
"""Of a state's 128 rows."""
SLOTS = gl.constexpr(2)
"""Chunks whose k and gates are there at a time."""
BYTES = gl.constexpr(2 * 64 * 64)
"""Of a tile."""
# places, by tile: q, k of chunks in turn, the upstream gradient, and what goes back from R to S
Q = gl.constexpr(0)
KEYS = gl.constexpr(2)
DO = gl.constexpr(6)
BACK = gl.constexpr(8)
# what the state is fed, what it is written with, lam
VALUES = gl.constexpr(10)
WRITTEN = gl.constexpr(12)
SOLVED = gl.constexpr(14)
# what multiplies k for dq, what multiplies k for dk
SCORES = gl.constexpr(16)
SQUARES = gl.constexpr(17)
# the state and its gradient, 64 rows of each at a time; dq and dk are sent from where the gradient was
BEFORE = gl.constexpr(18)
AFTER = gl.constexpr(22)
DQ = gl.constexpr(22)
DK = gl.constexpr(24)
TILES = gl.constexpr(26)
# sums by rows, of chunks in turn: of lam times what the state was fed, and of <S, dS>
OF_VALUES = gl.constexpr(0)
OF_STATES = gl.constexpr(2)
SUMS = gl.constexpr(4)
# barriers: what is there of tiles that were asked for
REPLAY_READY = gl.constexpr(0)
UPSTREAM_READY = gl.constexpr(1)
SOLVED_READY = gl.constexpr(2)
AFTER_READY = gl.constexpr(3)
# what the group that carries the state has made; and that the other group is done with it
MADE = gl.constexpr(4)
SUMS_MADE = gl.constexpr(5)
FREE = gl.constexpr(6)
GATES_FREE = gl.constexpr(7)
BARRIERS = gl.constexpr(9)

# renamed after Triton 3.6
REINTERPRET = gl.constexpr(hasattr(gl.shared_memory_descriptor, "reinterpret"))
synchronize = getattr(gl, "thread_barrier", None) or gl.barrier


@gluon.jit
def unknown_zero():
    """So that what follows from a place in shared memory is worked out where it is needed: it would fill registers."""
    return gl.inline_asm_elementwise(
        "mov.u32 $0, %clock_hi; shr.u32 $0, $0, 31;", "=r", [], dtype=gl.int32, is_pure=False, pack=1
    )


@gluon.jit
def whole(tiles, place, BLOCKS: gl.constexpr):
    """BLOCKS tiles side by side: two are one of 128 columns."""
    if BLOCKS == 2:
        if REINTERPRET:
            halves = tiles.reinterpret(tiles.dtype, [tiles.shape[0] // 2, 64, 128], tiles.layout)
        else:
            halves = tiles._reinterpret(tiles.dtype, [tiles.shape[0] // 2, 64, 128], tiles.layout)
        found = halves.index(place // 2)
    else:
        found = tiles.index(place)
    return found


@gluon.jit
def ask_for_replay(
    spot, turn, descriptors, shared, BLOCKS: gl.constexpr, DELTA: gl.constexpr, RESIDUAL: gl.constexpr,
    SECOND: gl.constexpr,
):  # fmt: skip
    """What carries the state over a chunk: k, what the state is fed, and by the delta rule the inverted system."""
    k_tiles, values_tiles, inverse_tiles = descriptors
    tiles, system, barriers = shared[0], shared[1], shared[2]
    at, token, head, place = spot
    INVERSES: gl.constexpr = 2 if RESIDUAL else 1
    ready = barriers.index(REPLAY_READY)
    mbarrier.expect(ready, (HALVES + BLOCKS + DELTA) * BYTES)
    load_async(k_tiles, [token, head * K], ready, whole(tiles, KEYS + turn % SLOTS * HALVES, HALVES))
    load_async(values_tiles, [token, head * (BLOCKS * 64)], ready, whole(tiles, VALUES, BLOCKS))
    if DELTA:
        load_async(inverse_tiles, [(place * INVERSES + SECOND) * C, 0], ready, system.index(0))


@gluon.jit
def ask_for_upstream(spot, descriptors, shared, BLOCKS: gl.constexpr, PREDICTED: gl.constexpr):
    """q, the upstream gradient, the solved system; PREDICTED: and what goes back from R."""
    q_tiles, do_tiles, solved_tiles, back_tiles = descriptors
    tiles, barriers = shared[0], shared[2]
    at, token, head, place = spot
    mbarrier.expect(barriers.index(SOLVED_READY), BLOCKS * BYTES)
    load_async(solved_tiles, [at * C, 0], barriers.index(SOLVED_READY), whole(tiles, SOLVED, BLOCKS))
    ready = barriers.index(UPSTREAM_READY)
    mbarrier.expect(ready, (HALVES + (2 if PREDICTED else 1) * BLOCKS) * BYTES)
    load_async(q_tiles, [token, head * K], ready, whole(tiles, Q, HALVES))
    load_async(do_tiles, [token, head * (BLOCKS * 64)], ready, whole(tiles, DO, BLOCKS))
    if PREDICTED:
        load_async(back_tiles, [at * C, 0], ready, whole(tiles, BACK, BLOCKS))


@gluon.jit
def ask_for_after(spot, after_tiles, shared, BLOCKS: gl.constexpr):
    """The gradient of the state after a chunk."""
    tiles, barriers = shared[0], shared[2]
    ready = barriers.index(AFTER_READY)
    mbarrier.expect(ready, HALVES * BLOCKS * BYTES)
    for half in gl.static_range(HALVES):
        load_async(after_tiles, [spot[0] * K + half * 64, 0], ready, whole(tiles, AFTER + 2 * half, BLOCKS))
