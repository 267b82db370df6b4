"""What the gradients' kernel has in shared memory, and asking the copy engine for it.

All tiles are [64, 64]: two make q or k of a chunk, V // 64 its values or 64 rows of a state.
"""

# tuples are unpacked whole
# ruff: noqa: RUF059
import triton.experimental.gluon.language as gl
from triton.experimental import gluon
from triton.experimental.gluon.language.nvidia.hopper import mbarrier

from rla_exp.kernels.triton.hopper.layout import C, K
from rla_exp.kernels.triton.hopper.loads import load_async

HALVES = gl.constexpr(2)
"""Of a state's 128 rows."""
BYTES = gl.constexpr(2 * 64 * 64)
"""Of a tile."""
# places, by tile, in the one piece of shared memory: so they have one address in a register. Of q, k, the upstream
# gradient, and what goes back from R to S
Q = gl.constexpr(0)
KEYS = gl.constexpr(2)
DO = gl.constexpr(4)
BACK = gl.constexpr(6)
# of S, and of R
OF_S = gl.constexpr(8)
OF_R = gl.constexpr(18)
# of a state: what it was fed, then what it is written with, and at last (of S) dq or (of R) its share of that; lam,
# and at last dk; the inverted system, then what multiplies k for dq; what multiplies k for dk; 64 rows of the state and
# of its gradient, without a residual all 128; what the state holds at k, with a residual in place of the gradient
VALUES = gl.constexpr(0)
SOLVED = gl.constexpr(2)
SCORES = gl.constexpr(4)
SQUARES = gl.constexpr(5)
BEFORE = gl.constexpr(6)
AFTER_BOTH = gl.constexpr(8)
AFTER_ALONE = gl.constexpr(10)
READS_ALONE = gl.constexpr(14)
TILES_BOTH = gl.constexpr(28)
TILES_ALONE = gl.constexpr(24)
# barriers of both states
KEYS_READY = gl.constexpr(0)
KEYS_DONE = gl.constexpr(1)
BACK_READY = gl.constexpr(2)
BACK_FREE = gl.constexpr(3)
SHARES_READY = gl.constexpr(4)
SHARES_FREE = gl.constexpr(5)
KEYS_NORMAL = gl.constexpr(6)
BARRIERS = gl.constexpr(7)
# barriers of one state
VALUES_READY = gl.constexpr(0)
SYSTEM_READY = gl.constexpr(1)
BEFORE_READY = gl.constexpr(2)
AFTER_READY = gl.constexpr(4)
STATE_BARRIERS = gl.constexpr(6)

# renamed after Triton 3.6
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
        halves = tiles._reinterpret(tiles.dtype, [tiles.shape[0] // 2, 64, 128], tiles.layout)
        found = halves.index(place // 2)
    else:
        found = tiles.index(place)
    return found


@gluon.jit
def ask_for_keys(spot, descriptors, shared, BLOCKS: gl.constexpr):
    """q, k and the upstream gradient."""
    q_tiles, k_tiles, do_tiles = descriptors
    tiles, both, barriers, log_a = shared
    at, token, head, place = spot
    ready = both.index(KEYS_READY)
    mbarrier.expect(ready, (2 * HALVES + BLOCKS) * BYTES)
    load_async(q_tiles, [token, head * K], ready, whole(tiles, Q, HALVES))
    load_async(k_tiles, [token, head * K], ready, whole(tiles, KEYS, HALVES))
    load_async(do_tiles, [token, head * (BLOCKS * 64)], ready, whole(tiles, DO, BLOCKS))


@gluon.jit
def ask_for_values(spot, descriptors, shared, BLOCKS: gl.constexpr, SECOND: gl.constexpr):
    """What the state was fed, and the solved system."""
    values_tiles, solved_tiles, reads_tiles, inverse_tiles, before_tiles, after_tiles = descriptors
    tiles, both, barriers, log_a = shared
    at, token, head, place = spot
    OWN: gl.constexpr = OF_R if SECOND else OF_S
    ready = barriers.index(VALUES_READY)
    mbarrier.expect(ready, 2 * BLOCKS * BYTES)
    load_async(values_tiles, [token, head * (BLOCKS * 64)], ready, whole(tiles, OWN + VALUES, BLOCKS))
    load_async(solved_tiles, [at * C, 0], ready, whole(tiles, OWN + SOLVED, BLOCKS))


@gluon.jit
def ask_for_system(spot, descriptors, shared, BLOCKS: gl.constexpr, RESIDUAL: gl.constexpr, SECOND: gl.constexpr):
    """By the delta rule: what the state holds at k, and the inverted system."""
    values_tiles, solved_tiles, reads_tiles, inverse_tiles, before_tiles, after_tiles = descriptors
    tiles, both, barriers, log_a = shared
    at, token, head, place = spot
    OWN: gl.constexpr = OF_R if SECOND else OF_S
    READS: gl.constexpr = AFTER_BOTH if RESIDUAL else READS_ALONE
    INVERSES: gl.constexpr = 2 if RESIDUAL else 1
    ready = barriers.index(SYSTEM_READY)
    mbarrier.expect(ready, (BLOCKS + 1) * BYTES)
    load_async(reads_tiles, [at * C, 0], ready, whole(tiles, OWN + READS, BLOCKS))
    load_async(inverse_tiles, [(place * INVERSES + SECOND) * C, 0], ready, tiles.index(OWN + SCORES))


@gluon.jit
def ask_for_before(
    spot, half: gl.constexpr, descriptors, shared, BLOCKS: gl.constexpr, RESIDUAL: gl.constexpr, SECOND: gl.constexpr
):
    """64 rows of the state."""
    tiles, both, barriers, log_a = shared
    PLACE: gl.constexpr = (OF_R if SECOND else OF_S) + BEFORE + (0 if RESIDUAL else half * 2)
    ready = barriers.index(BEFORE_READY + half)
    mbarrier.expect(ready, BLOCKS * BYTES)
    load_async(descriptors[4], [spot[0] * K + half * 64, 0], ready, whole(tiles, PLACE, BLOCKS))


@gluon.jit
def ask_for_after(
    spot, half: gl.constexpr, descriptors, shared, BLOCKS: gl.constexpr, RESIDUAL: gl.constexpr, SECOND: gl.constexpr
):
    """64 rows of its gradient."""
    tiles, both, barriers, log_a = shared
    AFTER: gl.constexpr = AFTER_BOTH if RESIDUAL else AFTER_ALONE + half * 2
    PLACE: gl.constexpr = (OF_R if SECOND else OF_S) + AFTER
    ready = barriers.index(AFTER_READY + half)
    mbarrier.expect(ready, BLOCKS * BYTES)
    load_async(descriptors[5], [spot[0] * K + half * 64, 0], ready, whole(tiles, PLACE, BLOCKS))
