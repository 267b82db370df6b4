"""The warps that take one state's part in a chunk's gradients, and how both parts are put together."""

# tuples are unpacked whole
# ruff: noqa: RUF059
import triton.experimental.gluon.language as gl
from triton.experimental import gluon
from triton.experimental.gluon.language.nvidia.hopper import fence_async_shared, mbarrier, tma

from rla_exp.kernels.triton.hopper.inside import load_gates, make_matrices, make_written
from rla_exp.kernels.triton.hopper.layout import (
    BY_COLUMN,
    BY_ROW,
    SQUARE,
    C,
    K,
)
from rla_exp.kernels.triton.hopper.loads import store_async
from rla_exp.kernels.triton.hopper.slots import (
    BACK_FREE,
    HALVES,
    KEYS,
    KEYS_DONE,
    KEYS_NORMAL,
    KEYS_READY,
    OF_R,
    OF_S,
    SHARES_FREE,
    SHARES_READY,
    SOLVED,
    VALUES,
    Q,
    ask_for_after,
    ask_for_before,
    ask_for_keys,
    ask_for_system,
    ask_for_values,
    places,
    synchronize,
    whole,
)
from rla_exp.kernels.triton.hopper.through import through_half


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


@gluon.jit
def take_state(
    rows,
    key_tiles,
    state_tiles,
    outputs,
    shared,
    sizes,
    total,
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
    """R (SECOND): dgamma, and its shares of dq, dk and dg. Else S: dbeta, and the sums."""
    tiles, both, barriers, log_a = shared
    dq_tiles, dk_tiles, dg, d_strengths = outputs
    H = sizes[3]
    BLOCKS: gl.constexpr = V // 64
    OWN: gl.constexpr = OF_R if SECOND else OF_S
    dtype: gl.constexpr = tiles.dtype
    # what the state holds at k takes the place of its gradient
    READS_THERE: gl.constexpr = DELTA and RESIDUAL
    # norms of q and k by row; their products may leave the range of float16, whose tiles are normalized instead
    NORMS: gl.constexpr = NORMALIZE and dtype != gl.float16
    ROUNDED: gl.constexpr = NORMALIZE and dtype == gl.float16
    step = gl.num_programs(0)
    spot = places(gl.program_id(0), sizes)
    if not SECOND:
        ask_for_keys(spot, key_tiles, shared, BLOCKS)
    if DELTA:
        ask_for_system(spot, state_tiles, shared, BLOCKS, RESIDUAL, SECOND)
    ask_for_values(spot, state_tiles, shared, BLOCKS, SECOND)
    ask_for_before(spot, 0, state_tiles, shared, BLOCKS, RESIDUAL, SECOND)
    if not READS_THERE:
        ask_for_after(spot, 0, state_tiles, shared, BLOCKS, RESIDUAL, SECOND)
    if not RESIDUAL:
        ask_for_before(spot, 1, state_tiles, shared, BLOCKS, RESIDUAL, SECOND)
        ask_for_after(spot, 1, state_tiles, shared, BLOCKS, RESIDUAL, SECOND)
    ones = gl.full([C], 1.0, gl.float32, BY_ROW)
    of_next = load_gates(rows, spot[0], NORMALIZE, SECOND)
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
        lam_error, lam_held = make_written(gates, shared, turn, bound, BLOCKS, DELTA, RESIDUAL, FIT, CLIPPED, SECOND)
        if READS_THERE:
            ask_for_after(spot, 0, state_tiles, shared, BLOCKS, RESIDUAL, SECOND)
        mbarrier.wait(both.index(KEYS_READY), turn & 1)
        if ROUNDED:
            if SECOND:
                mbarrier.wait(both.index(KEYS_NORMAL), turn & 1)
            else:
                normalize_tiles(tiles, Q, of_chunk[4])
                normalize_tiles(tiles, KEYS, of_chunk[3])
                fence_async_shared()
                synchronize()
                mbarrier.arrive(both.index(KEYS_NORMAL), count=1)
        d_strength, d_G, d_G_before = make_matrices(
            gates, shared, turn, scale, lam_error, lam_held,
            BLOCKS, DELTA, RESIDUAL, FIT, SUM, DECAYED, NORMS, SECOND,
        )  # fmt: skip
        # a chunk ahead: nothing hides the time that these take
        of_next = load_gates(rows, gl.where(later[0] < total, later[0], at), NORMALIZE, SECOND)
        d_q, d_k, along, of_prediction, kept, inner = through_half(
            0, gates, shared, turn, scale, BLOCKS, DELTA, RESIDUAL, FIT, SUM, DECAYED, SECOND
        )
        synchronize()
        if RESIDUAL:
            ask_for_before(spot, 1, state_tiles, shared, BLOCKS, RESIDUAL, SECOND)
            ask_for_after(spot, 1, state_tiles, shared, BLOCKS, RESIDUAL, SECOND)
        elif later[0] < total:
            ask_for_before(later, 0, state_tiles, shared, BLOCKS, RESIDUAL, SECOND)
            ask_for_after(later, 0, state_tiles, shared, BLOCKS, RESIDUAL, SECOND)
        d_q_1, d_k_1, along_1, of_prediction_1, kept_1, inner_1 = through_half(
            1, gates, shared, turn, scale, BLOCKS, DELTA, RESIDUAL, FIT, SUM, DECAYED, SECOND
        )
        synchronize()
        if later[0] < total:
            if not RESIDUAL:
                ask_for_before(later, 1, state_tiles, shared, BLOCKS, RESIDUAL, SECOND)
                ask_for_after(later, 1, state_tiles, shared, BLOCKS, RESIDUAL, SECOND)
            else:
                ask_for_before(later, 0, state_tiles, shared, BLOCKS, RESIDUAL, SECOND)
                if not READS_THERE:
                    ask_for_after(later, 0, state_tiles, shared, BLOCKS, RESIDUAL, SECOND)
            if DELTA:
                ask_for_system(later, state_tiles, shared, BLOCKS, RESIDUAL, SECOND)
        if SECOND:
            mbarrier.arrive(both.index(KEYS_DONE), count=1)
        elif FIT:
            mbarrier.arrive(both.index(BACK_FREE), count=1)

        d_strength, d_log_a = gate_gradients(
            gates, scale, d_strength, d_G, d_G_before,
            along + along_1, of_prediction + of_prediction_1, kept + kept_1, inner + inner_1,
            FIT, SUM, DECAYED, SECOND,
        )  # fmt: skip
        at_gates = token.to(gl.int64) * H + head + gl.arange(0, C, BY_ROW) * H
        gl.store(d_strengths + at_gates, d_strength)
        if SECOND:
            log_a.index(0).store(d_log_a)
        else:
            if RESIDUAL:
                mbarrier.wait(both.index(SHARES_READY), turn & 1)
                d_log_a += log_a.index(0).load(BY_ROW)
                d_q += tiles.index(OF_R + VALUES).load(SQUARE).to(gl.float32)
                d_q_1 += tiles.index(OF_R + VALUES + 1).load(SQUARE).to(gl.float32)
                d_k += tiles.index(OF_R + SOLVED).load(SQUARE).to(gl.float32)
                d_k_1 += tiles.index(OF_R + SOLVED + 1).load(SQUARE).to(gl.float32)
                synchronize()
                mbarrier.arrive(both.index(SHARES_FREE), count=1)
            gl.store(dg + at_gates, d_log_a)
            if NORMALIZE:
                d_q, d_q_1 = project(d_q, d_q_1, tiles, Q, of_chunk[4], ROUNDED)
                d_k, d_k_1 = project(d_k, d_k_1, tiles, KEYS, of_chunk[3], ROUNDED)
        # values and lam are of no use any more
        tiles.index(OWN + VALUES).store(d_q.to(dtype))
        tiles.index(OWN + VALUES + 1).store(d_q_1.to(dtype))
        tiles.index(OWN + SOLVED).store(d_k.to(dtype))
        tiles.index(OWN + SOLVED + 1).store(d_k_1.to(dtype))
        if SECOND:
            synchronize()
            mbarrier.arrive(both.index(SHARES_READY), count=1)
            mbarrier.wait(both.index(SHARES_FREE), turn & 1)
        else:
            fence_async_shared()
            synchronize()
            store_async(dq_tiles, [token, head * K], whole(tiles, OWN + VALUES, HALVES))
            store_async(dk_tiles, [token, head * K], whole(tiles, OWN + SOLVED, HALVES))
            if RESIDUAL:
                mbarrier.wait(both.index(KEYS_DONE), turn & 1)
            if later[0] < total:
                ask_for_keys(later, key_tiles, shared, BLOCKS)
            tma.store_wait(0)
            synchronize()
        if later[0] < total:
            ask_for_values(later, state_tiles, shared, BLOCKS, SECOND)
        spot = later
        turn += 1
