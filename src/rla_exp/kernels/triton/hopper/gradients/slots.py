"""What the gradients' kernel has in shared memory, and asking the copy engine for it.

All tiles are [64, 64]: two make q or k of a chunk, V // 64 its values or 64 rows of a state. Each has a place of its
own, and is asked for as soon as the chunk before is done with it.
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
BYTES = gl.constexpr(2 * 64 * 64)
"""Of a tile."""
# places, by tile: q, k, the upstream gradient, and what goes back from R to S
Q = gl.constexpr(0)
KEYS = gl.constexpr(2)
DO = gl.constexpr(4)
BACK = gl.constexpr(6)
# what the state was fed, then what it is written with; lam
VALUES = gl.constexpr(8)
SOLVED = gl.constexpr(10)
# the inverted system, then what multiplies k for dq; what multiplies k for dk
SCORES = gl.constexpr(12)
SQUARES = gl.constexpr(13)
# the state and its gradient, 64 rows of each at a time; what it holds at k
BEFORE = gl.constexpr(14)
AFTER = gl.constexpr(18)
READS = gl.constexpr(22)
# dq and dk, before them (of S) what R leaves of both
DQ = gl.constexpr(24)
DK = gl.constexpr(26)
TILES = gl.constexpr(28)
# barriers: what is there
KEYS_READY = gl.constexpr(0)
VALUES_READY = gl.constexpr(1)
READS_READY = gl.constexpr(2)
SHARES_READY = gl.constexpr(3)
BEFORE_READY = gl.constexpr(4)
AFTER_READY = gl.constexpr(6)
BARRIERS = gl.constexpr(8)

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
def places(at, sizes):
    """Of the at-th of all chunks and heads of a slice: at, its first token, its head, its place in all sequences."""
    T, J0, LS, H = sizes
    index = at // H
    head = at % H
    n = index // LS
    j = J0 + index % LS
    return at, n * T + j * C, head, (n * (T // C) + j) * H + head


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
def ask_for_keys(spot, descriptors, shared, BLOCKS: gl.constexpr, PREDICTED: gl.constexpr):
    """q, k and the upstream gradient; PREDICTED: and what goes back from R."""
    q_tiles, k_tiles, do_tiles, back_tiles = descriptors[0]
    tiles, barriers = shared
    at, token, head, place = spot
    ready = barriers.index(KEYS_READY)
    mbarrier.expect(ready, (2 * HALVES + (2 if PREDICTED else 1) * BLOCKS) * BYTES)
    load_async(k_tiles, [token, head * K], ready, whole(tiles, KEYS, HALVES))
    load_async(q_tiles, [token, head * K], ready, whole(tiles, Q, HALVES))
    load_async(do_tiles, [token, head * (BLOCKS * 64)], ready, whole(tiles, DO, BLOCKS))
    if PREDICTED:
        load_async(back_tiles, [at * C, 0], ready, whole(tiles, BACK, BLOCKS))


@gluon.jit
def ask_for_values(
    spot, descriptors, shared, BLOCKS: gl.constexpr, DELTA: gl.constexpr, RESIDUAL: gl.constexpr, SECOND: gl.constexpr
):
    """What the state was fed, the solved system, and by the delta rule the inverted one."""
    values_tiles, solved_tiles, inverse_tiles = descriptors[1]
    tiles, barriers = shared
    at, token, head, place = spot
    INVERSES: gl.constexpr = 2 if RESIDUAL else 1
    ready = barriers.index(VALUES_READY)
    mbarrier.expect(ready, (2 * BLOCKS + DELTA) * BYTES)
    load_async(values_tiles, [token, head * (BLOCKS * 64)], ready, whole(tiles, VALUES, BLOCKS))
    load_async(solved_tiles, [at * C, 0], ready, whole(tiles, SOLVED, BLOCKS))
    if DELTA:
        load_async(inverse_tiles, [(place * INVERSES + SECOND) * C, 0], ready, tiles.index(SCORES))


@gluon.jit
def ask_for_reads(spot, descriptors, shared, BLOCKS: gl.constexpr):
    """By the delta rule: what the state holds at k."""
    tiles, barriers = shared
    ready = barriers.index(READS_READY)
    mbarrier.expect(ready, BLOCKS * BYTES)
    load_async(descriptors[2][0], [spot[0] * C, 0], ready, whole(tiles, READS, BLOCKS))


@gluon.jit
def ask_for_state(spot, half: gl.constexpr, descriptors, shared, BLOCKS: gl.constexpr):
    """64 rows of the state, and of its gradient."""
    reads_tiles, before_tiles, after_tiles = descriptors[2]
    tiles, barriers = shared
    row = spot[0] * K + half * 64
    mbarrier.expect(barriers.index(BEFORE_READY + half), BLOCKS * BYTES)
    load_async(before_tiles, [row, 0], barriers.index(BEFORE_READY + half), whole(tiles, BEFORE + 2 * half, BLOCKS))
    mbarrier.expect(barriers.index(AFTER_READY + half), BLOCKS * BYTES)
    load_async(after_tiles, [row, 0], barriers.index(AFTER_READY + half), whole(tiles, AFTER + 2 * half, BLOCKS))


@gluon.jit
def ask_for_shares(spot, descriptors, shared):
    """What R left of dq and dk."""
    dq_tiles, dk_tiles = descriptors[3]
    tiles, barriers = shared
    at, token, head, place = spot
    ready = barriers.index(SHARES_READY)
    mbarrier.expect(ready, 2 * HALVES * BYTES)
    load_async(dq_tiles, [token, head * K], ready, whole(tiles, DQ, HALVES))
    load_async(dk_tiles, [token, head * K], ready, whole(tiles, DK, HALVES))
