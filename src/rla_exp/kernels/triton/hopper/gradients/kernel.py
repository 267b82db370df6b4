"""The gradients of q, k and the gates through one state in one kernel, for Hopper: all loads are asked for ahead.

The sums are those of `gradients.py` beside this package. A program of four warps takes one chunk of a head after
another. All that it needs of a chunk has a place in shared memory, which the copy engine fills with the next as soon
as it is free; products take both operands from there. So V is gone over once, and no sums but dq and dk of a chunk stay
in registers.
"""

# tuples are unpacked whole
# ruff: noqa: RUF059
import triton.experimental.gluon.language as gl
from triton.experimental import gluon
from triton.experimental.gluon.language.nvidia.hopper import fence_async_shared, mbarrier, tma

from rla_exp.kernels.triton.hopper.copies import store_async
from rla_exp.kernels.triton.hopper.gradients.inside import gates_of_chunk, make_matrices, make_written
from rla_exp.kernels.triton.hopper.gradients.slots import (
    BARRIERS,
    DK,
    DQ,
    HALVES,
    KEYS,
    KEYS_READY,
    SHARES_READY,
    TILES,
    Q,
    ask_for_keys,
    ask_for_reads,
    ask_for_shares,
    ask_for_state,
    ask_for_values,
    places,
    synchronize,
    whole,
)
from rla_exp.kernels.triton.hopper.gradients.through import through_half
from rla_exp.kernels.triton.hopper.layout import BY_COLUMN, BY_ROW, SQUARE, C, K


@gluon.jit
def normalize_tiles(tiles, FIRST: gl.constexpr, norm):
    """q or k in place."""
    for n in gl.static_range(HALVES):
        x = tiles.index(FIRST + n).load(SQUARE).to(gl.float32) * norm[:, None]
        tiles.index(FIRST + n).store(x.to(tiles.dtype))


@gluon.jit
def project(d_x, d_x_1, tiles, FIRST: gl.constexpr, norm, ROUNDED: gl.constexpr):
    """Of q or k, without what normalizing takes out: what is along x. Halves of the columns.

    ROUNDED: x is normalized.
    """
    x = tiles.index(FIRST).load(SQUARE).to(gl.float32)
    x_1 = tiles.index(FIRST + 1).load(SQUARE).to(gl.float32)
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
def gate_gradients(
    gates,
    scale,
    d_strength,
    d_G,
    d_G_before,
    along,
    of_prediction,
    kept,
    inner,
    FIT: gl.constexpr,
    SUM: gl.constexpr,
    DECAYED: gl.constexpr,
    SECOND: gl.constexpr,
):
    """Of beta or gamma, and of the log decays [C], from what passes inside the chunk and (along, of_prediction, kept,
    inner) through the state.
    """
    row = gl.arange(0, C, BY_ROW)
    column = gl.arange(0, C, BY_COLUMN)
    G, G_before, strength, k_norm, q_norm, G_last = gates
    decay = gl.exp(G)
    decay_before = gl.exp(G_before)
    along *= scale * q_norm
    along *= decay_before if SUM and not SECOND else decay
    if SECOND and not SUM:
        d_strength += along
        along *= strength
    if SUM and not SECOND:
        d_G_before += along
    else:
        d_G += along
    if FIT and not SECOND:
        if DECAYED:
            d_G += decay * of_prediction
        else:
            d_G_before += decay_before * of_prediction
    # the share of the last row in the state is exp(0) = 1 whatever the gates, and so is exp(G_{t-1}) of the first one:
    # left out of the sums
    kept = gl.where(row == C - 1, 0.0, kept)
    d_G_before = gl.where(row == 0, 0.0, d_G_before)
    # G_t is the sum of the decays up to t, and the state gets all of them
    received = gl.convert_layout(d_G + d_G_before - kept, BY_COLUMN)
    d_log_a = gl.sum(gl.where(column[None, :] >= row[:, None], received[None, :], 0.0), 1) - d_G_before
    d_log_a += gl.sum(kept + inner * gl.exp(G_last), 0)
    return d_strength, d_log_a


# one binary for all lengths: what the self-check compiled is what runs
@gluon.jit(do_not_specialize=["total", "T", "J0", "LS", "H"])
def fused_gradients_kernel(
    q_tiles,
    k_tiles,
    do_tiles,
    values_tiles,
    inverse_tiles,
    solved_tiles,
    reads_tiles,
    before_tiles,
    after_tiles,
    back_tiles,
    dq_tiles,
    dk_tiles,
    rows,
    dg,
    d_strengths,
    total,
    T,
    J0,
    LS,
    H,
    scale,
    bound,
    V: gl.constexpr,
    DELTA: gl.constexpr,
    RESIDUAL: gl.constexpr,
    FIT: gl.constexpr,
    CLIPPED: gl.constexpr,
    SUM: gl.constexpr,
    DECAYED: gl.constexpr,
    NORMALIZE: gl.constexpr,
    SECOND: gl.constexpr,
):
    """SECOND: R, with gamma: dgamma, and R's shares of dq, dk and dg. Else S: dbeta, and the sums.

    Programs take the chunks and heads of a slice, `total` in all, in turn. R leaves the gradient of the prediction for
    S (back_tiles).
    """
    BLOCKS: gl.constexpr = V // 64
    PREDICTED: gl.constexpr = FIT and not SECOND
    ADD: gl.constexpr = RESIDUAL and not SECOND
    PROJECT: gl.constexpr = NORMALIZE and not SECOND
    dtype: gl.constexpr = q_tiles.dtype
    # norms of q and k by row; their products may leave the range of float16, whose tiles are normalized instead
    NORMS: gl.constexpr = NORMALIZE and dtype != gl.float16
    ROUNDED: gl.constexpr = NORMALIZE and dtype == gl.float16
    tiles = gl.allocate_shared_memory(dtype, [TILES, 64, 64], gl.NVMMASharedLayout(128, 16))
    barriers = gl.allocate_shared_memory(gl.int64, [BARRIERS, 1], mbarrier.MBarrierLayout())
    for i in gl.static_range(BARRIERS):
        mbarrier.init(barriers.index(i), count=1)
    fence_async_shared()
    synchronize()
    shared = (tiles, barriers)
    descriptors = (
        (q_tiles, k_tiles, do_tiles, back_tiles),
        (values_tiles, solved_tiles, inverse_tiles),
        (reads_tiles, before_tiles, after_tiles),
        (dq_tiles, dk_tiles),
    )
    sizes = (T, J0, LS, H)
    step = gl.num_programs(0)
    spot = places(gl.program_id(0), sizes)
    ask_for_values(spot, descriptors, shared, BLOCKS, DELTA, RESIDUAL, SECOND)
    if DELTA:
        ask_for_reads(spot, descriptors, shared, BLOCKS)
    ask_for_keys(spot, descriptors, shared, BLOCKS, PREDICTED)
    ask_for_state(spot, 0, descriptors, shared, BLOCKS)
    ask_for_state(spot, 1, descriptors, shared, BLOCKS)
    row = gl.arange(0, C, BY_ROW)
    ones = gl.full([C], 1.0, gl.float32, BY_ROW)
    of_next = gates_of_chunk(rows, spot[0], NORMALIZE, SECOND)
    turn = 0
    while spot[0] < total:
        at, token, head, place = spot
        later = places(at + step, sizes)
        of_chunk = of_next
        gates = of_chunk
        if ROUNDED:
            # of normalized tiles
            G, G_before, strength, k_norm, q_norm, G_last = of_chunk
            gates = (G, G_before, strength, ones, ones, G_last)
        at_gates = token.to(gl.int64) * H + head + row * H
        lam_error, lam_held = make_written(gates, shared, back_tiles, at, turn, bound, BLOCKS, DELTA, CLIPPED, SECOND)
        if DELTA:
            if later[0] < total:
                ask_for_reads(later, descriptors, shared, BLOCKS)
        if ADD:
            # in the place of what the chunk before has sent
            tma.store_wait(0)
            synchronize()
            ask_for_shares(spot, descriptors, shared)
        mbarrier.wait(barriers.index(KEYS_READY), turn & 1)
        if ROUNDED:
            normalize_tiles(tiles, Q, of_chunk[4])
            normalize_tiles(tiles, KEYS, of_chunk[3])
            fence_async_shared()
            synchronize()
        d_strength, d_G, d_G_before = make_matrices(
            gates, shared, scale, lam_error, lam_held, BLOCKS, DELTA, RESIDUAL, FIT, SUM, DECAYED, NORMS, SECOND
        )
        # a chunk ahead: nothing hides the time that these take
        of_next = gates_of_chunk(rows, gl.where(later[0] < total, later[0], at), NORMALIZE, SECOND)
        if ADD:
            share = gl.load(dg + at_gates)
        d_q, d_k, along, of_prediction, kept, inner = through_half(
            0, gates, shared, turn, scale, BLOCKS, DELTA, FIT, SUM, DECAYED, SECOND
        )
        synchronize()
        if later[0] < total:
            ask_for_state(later, 0, descriptors, shared, BLOCKS)
        d_q_1, d_k_1, along_1, of_prediction_1, kept_1, inner_1 = through_half(
            1, gates, shared, turn, scale, BLOCKS, DELTA, FIT, SUM, DECAYED, SECOND
        )
        if ADD:
            mbarrier.wait(barriers.index(SHARES_READY), turn & 1)
            d_q += tiles.index(DQ).load(SQUARE).to(gl.float32)
            d_q_1 += tiles.index(DQ + 1).load(SQUARE).to(gl.float32)
            d_k += tiles.index(DK).load(SQUARE).to(gl.float32)
            d_k_1 += tiles.index(DK + 1).load(SQUARE).to(gl.float32)
        if PROJECT:
            d_q, d_q_1 = project(d_q, d_q_1, tiles, Q, of_chunk[4], ROUNDED)
            d_k, d_k_1 = project(d_k, d_k_1, tiles, KEYS, of_chunk[3], ROUNDED)
        if not ADD:
            # the chunk before is sent
            tma.store_wait(0)
        synchronize()
        if later[0] < total:
            ask_for_values(later, descriptors, shared, BLOCKS, DELTA, RESIDUAL, SECOND)
            ask_for_keys(later, descriptors, shared, BLOCKS, PREDICTED)
            ask_for_state(later, 1, descriptors, shared, BLOCKS)
        tiles.index(DQ).store(d_q.to(dtype))
        tiles.index(DQ + 1).store(d_q_1.to(dtype))
        tiles.index(DK).store(d_k.to(dtype))
        tiles.index(DK + 1).store(d_k_1.to(dtype))
        fence_async_shared()
        synchronize()
        store_async(dq_tiles, [token, head * K], whole(tiles, DQ, HALVES))
        store_async(dk_tiles, [token, head * K], whole(tiles, DK, HALVES))
        d_strength, d_log_a = gate_gradients(
            gates, scale, d_strength, d_G, d_G_before,
            along + along_1, of_prediction + of_prediction_1, kept + kept_1, inner + inner_1,
            FIT, SUM, DECAYED, SECOND,
        )  # fmt: skip
        if ADD:
            d_log_a += share
        gl.store(d_strengths + at_gates, d_strength)
        gl.store(dg + at_gates, d_log_a)
        spot = later
        turn += 1
    tma.store_wait(0)
