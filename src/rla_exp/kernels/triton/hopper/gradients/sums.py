"""The warps that make the gradients of q, k and the gates, chunk by chunk, of what the other warps leave."""

# tuples are unpacked whole
# ruff: noqa: RUF059
import triton.experimental.gluon.language as gl
from triton.experimental import gluon
from triton.experimental.gluon.language.nvidia.hopper import fence_async_shared, mbarrier, tma

from rla_exp.kernels.triton.hopper.copies import add_async, store_async
from rla_exp.kernels.triton.hopper.gradients.inside import make_matrices
from rla_exp.kernels.triton.hopper.gradients.slots import (
    AFTER_READY,
    DK,
    DQ,
    FREE,
    GATES_FREE,
    HALVES,
    KEYS,
    MADE,
    OF_STATES,
    OF_VALUES,
    SLOTS,
    SOLVED_READY,
    SUMS_MADE,
    UPSTREAM_READY,
    Q,
    ask_for_after,
    ask_for_upstream,
    synchronize,
    whole,
)
from rla_exp.kernels.triton.hopper.gradients.through import through_half
from rla_exp.kernels.triton.hopper.gradients.units import moved, unit_at
from rla_exp.kernels.triton.hopper.layout import (
    BY_COLUMN,
    BY_ROW,
    DECAY,
    NORM_OF_K,
    NORM_OF_Q,
    SQUARE,
    C,
    K,
    gate,
    here,
)


@gluon.jit
def normalize_tiles(tiles, first, norm):
    """q or k in place."""
    for n in gl.static_range(HALVES):
        x = tiles.index(first + n).load(SQUARE).to(gl.float32) * norm[:, None]
        tiles.index(first + n).store(x.to(tiles.dtype))


@gluon.jit
def project(d_x, d_x_1, tiles, first, norm, ROUNDED: gl.constexpr):
    """Of q or k, without what normalizing takes out: what is along x. Halves of the columns.

    ROUNDED: x is normalized.
    """
    x = tiles.index(first).load(SQUARE).to(gl.float32)
    x_1 = tiles.index(first + 1).load(SQUARE).to(gl.float32)
    along = gl.sum(x * d_x, 1) + gl.sum(x_1 * d_x_1, 1)
    if not ROUNDED:
        along *= norm * norm
    d_x -= along[:, None] * x
    d_x_1 -= along[:, None] * x_1
    if ROUNDED:
        d_x *= norm[:, None]
        d_x_1 *= norm[:, None]
    return d_x, d_x_1


@gluon.jit
def decay_gradients(gates, slot, d_G, d_G_before, kept, inner):
    """Of the log decays [C]; inner: the sums by rows of the state before the chunk times the gradient after it."""
    row = gl.arange(0, C, BY_ROW)
    column = gl.arange(0, C, BY_COLUMN)
    # the share of the last row in the state is exp(0) = 1 whatever the gates, and so is exp(G_{t-1}) of the first one:
    # left out of the sums
    kept = gl.where(row == C - 1, 0.0, kept)
    d_G_before = gl.where(row == 0, 0.0, d_G_before)
    # G_t is the sum of the decays up to t, and the state gets all of them
    received = gl.convert_layout(d_G + d_G_before - kept, BY_COLUMN)
    d_log_a = gl.sum(gl.where(column[None, :] >= row[:, None], received[None, :], 0.0), 1) - d_G_before
    return d_log_a + gl.sum(kept + inner * gate(gates, slot, DECAY, BY_ROW), 0)


@gluon.jit
def make_gradients(
    dg,
    d_strengths,
    upstream,
    after_tiles,
    leaving,
    shared,
    sizes,
    total,
    scale,
    V: gl.constexpr,
    DELTA: gl.constexpr,
    RESIDUAL: gl.constexpr,
    FIT: gl.constexpr,
    SUM: gl.constexpr,
    DECAYED: gl.constexpr,
    NORMALIZE: gl.constexpr,
    SECOND: gl.constexpr,
):
    """Chunk by chunk, in the order of carry_state."""
    tiles, system, barriers, gates, sums = shared
    BLOCKS: gl.constexpr = V // 64
    PREDICTED: gl.constexpr = FIT and not SECOND
    ADD: gl.constexpr = RESIDUAL and not SECOND
    dtype: gl.constexpr = tiles.dtype
    # norms of q and k by row; their products may leave the range of float16, whose tiles are normalized instead
    NORMS: gl.constexpr = NORMALIZE and dtype != gl.float16
    ROUNDED: gl.constexpr = NORMALIZE and dtype == gl.float16
    H = sizes[3]
    unit = gl.program_id(0)
    spot, chunks, before, checkpoint = unit_at(unit, sizes)
    ask_for_upstream(spot, upstream, shared, BLOCKS, PREDICTED)
    step = 0
    turn = 0
    is_more = unit < total
    while is_more:
        at, token, head, place = spot
        slot = turn % SLOTS
        keys = KEYS + slot * HALVES
        # in the place of what the chunk before has sent
        tma.store_wait(0)
        synchronize()
        ask_for_after(spot, after_tiles, shared, BLOCKS)
        mbarrier.wait(barriers.index(UPSTREAM_READY), turn & 1)
        mbarrier.wait(barriers.index(SOLVED_READY), turn & 1)
        mbarrier.wait(barriers.index(MADE), turn & 1)
        if ROUNDED:
            # the state is carried on: k as it was is not needed any more
            mbarrier.wait(barriers.index(SUMS_MADE), turn & 1)
            normalize_tiles(tiles, Q, gate(gates, slot, NORM_OF_Q, BY_ROW))
            normalize_tiles(tiles, keys, gate(gates, slot, NORM_OF_K, BY_ROW))
            fence_async_shared()
            synchronize()
        received = make_matrices(
            gates, slot, keys, tiles, scale, BLOCKS, DELTA, RESIDUAL, FIT, SUM, DECAYED, NORMS, SECOND
        )
        mbarrier.wait(barriers.index(AFTER_READY), turn & 1)
        d_q, d_k, received = through_half(
            0, slot, keys, received, shared, BLOCKS, DELTA, FIT, SUM, DECAYED, ROUNDED, SECOND
        )
        if not NORMALIZE:
            # as they leave: half the registers
            d_q = d_q.to(dtype)
            d_k = d_k.to(dtype)
        mbarrier.wait(barriers.index(SUMS_MADE), turn & 1)
        d_q_1, d_k_1, received = through_half(
            1, slot, keys, received, shared, BLOCKS, DELTA, FIT, SUM, DECAYED, ROUNDED, SECOND
        )
        d_strength, d_G, d_G_before, kept = received
        at_gates = token.to(gl.int64) * H + head + here(gl.arange(0, C, BY_ROW)) * H
        if ADD:
            share = gl.load(dg + at_gates)
        if NORMALIZE:
            d_q, d_q_1 = project(d_q, d_q_1, tiles, Q, gate(gates, slot, NORM_OF_Q, BY_ROW), ROUNDED)
            d_k, d_k_1 = project(d_k, d_k_1, tiles, keys, gate(gates, slot, NORM_OF_K, BY_ROW), ROUNDED)
        d_strength += sums.index(OF_VALUES + slot).load(BY_ROW)
        inner = sums.index(OF_STATES + slot).load(BY_ROW)
        synchronize()
        mbarrier.arrive(barriers.index(FREE), count=1)
        spot = moved(spot, 1, H)
        step += 1
        if step == chunks:
            step = 0
            unit += gl.num_programs(0)
            spot, chunks, before, checkpoint = unit_at(unit, sizes)
        is_more = unit < total
        if is_more:
            ask_for_upstream(spot, upstream, shared, BLOCKS, PREDICTED)
        tiles.index(DQ).store(d_q.to(dtype))
        tiles.index(DQ + 1).store(d_q_1.to(dtype))
        tiles.index(DK).store(d_k.to(dtype))
        tiles.index(DK + 1).store(d_k_1.to(dtype))
        fence_async_shared()
        synchronize()
        if ADD:
            # each to what R left: once, so that the bits are the same each time
            add_async(leaving[0], [token, head * K], whole(tiles, DQ, HALVES))
            add_async(leaving[1], [token, head * K], whole(tiles, DK, HALVES))
        else:
            store_async(leaving[0], [token, head * K], whole(tiles, DQ, HALVES))
            store_async(leaving[1], [token, head * K], whole(tiles, DK, HALVES))
        d_log_a = decay_gradients(gates, slot, d_G, d_G_before, kept, inner)
        if ADD:
            d_log_a += share
        gl.store(d_strengths + at_gates, d_strength)
        gl.store(dg + at_gates, d_log_a)
        mbarrier.arrive(barriers.index(GATES_FREE + slot), count=1)
        turn += 1
    tma.store_wait(0)
