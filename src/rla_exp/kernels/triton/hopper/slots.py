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
KEYS_AT = gl.constexpr(2)
"""k lies behind q."""
SCORES = gl.constexpr(0)
"""What multiplies k for dq, where the inverted system was."""
SQUARES = gl.constexpr(1)
"""What multiplies k for dk."""
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
def places(at, sizes):
    """Of the at-th of all chunks and heads of a slice: its first token, its head, and its place in all sequences."""
    T, J0, LS, H = sizes
    index = at // H
    head = at % H
    n = index // LS
    j = J0 + index % LS
    return n * T + j * C, head, (n * (T // C) + j) * H + head


@gluon.jit
def ask_for_keys(at, tiles, common, sizes, BLOCKS: gl.constexpr):
    """q, k and the upstream gradient."""
    q_tiles, k_tiles, do_tiles = tiles
    keys, do, back, log_a, barriers = common
    token, head, place = places(at, sizes)
    ready = barriers.index(KEYS_READY)
    mbarrier.expect(ready, (2 * HALVES + BLOCKS) * BYTES)
    for n in gl.static_range(HALVES):
        load_async(q_tiles, [token, head * K + n * 64], ready, keys.index(n))
        load_async(k_tiles, [token, head * K + n * 64], ready, keys.index(KEYS_AT + n))
    for n in gl.static_range(BLOCKS):
        load_async(do_tiles, [token, head * (BLOCKS * 64) + n * 64], ready, do.index(n))


@gluon.jit
def ask_for_values(at, tiles, shared, sizes, BLOCKS: gl.constexpr):
    """What the state was fed, and the solved system."""
    values_tiles, solved_tiles, reads_tiles, inverse_tiles, before_tiles, after_tiles = tiles
    values, solved, reads, before, after, matrices, barriers = shared
    token, head, place = places(at, sizes)
    ready = barriers.index(VALUES_READY)
    mbarrier.expect(ready, 2 * BLOCKS * BYTES)
    for n in gl.static_range(BLOCKS):
        load_async(values_tiles, [token, head * (BLOCKS * 64) + n * 64], ready, values.index(n))
        load_async(solved_tiles, [at * C, n * 64], ready, solved.index(n))


@gluon.jit
def ask_for_system(at, tiles, shared, sizes, BLOCKS: gl.constexpr, INVERSES: gl.constexpr, SECOND: gl.constexpr):
    """By the delta rule: what the state holds at k, and the inverted system."""
    values_tiles, solved_tiles, reads_tiles, inverse_tiles, before_tiles, after_tiles = tiles
    values, solved, reads, before, after, matrices, barriers = shared
    token, head, place = places(at, sizes)
    ready = barriers.index(SYSTEM_READY)
    mbarrier.expect(ready, (BLOCKS + 1) * BYTES)
    for n in gl.static_range(BLOCKS):
        load_async(reads_tiles, [at * C, n * 64], ready, reads.index(n))
    load_async(inverse_tiles, [(place * INVERSES + SECOND) * C, 0], ready, matrices.index(SCORES))


@gluon.jit
def ask_for_state(at, half: gl.constexpr, slot: gl.constexpr, x_tiles, x, ready, BLOCKS: gl.constexpr):
    """64 rows of a state, or of its gradient."""
    mbarrier.expect(ready, BLOCKS * BYTES)
    for n in gl.static_range(BLOCKS):
        load_async(x_tiles, [at * K + half * 64, n * 64], ready, x.index(slot * BLOCKS + n))
