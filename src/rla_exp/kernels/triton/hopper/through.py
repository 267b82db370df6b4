"""The gradients of q and k through a state, and all that a chunk's gradients are put together from."""

# tuples are unpacked whole
# ruff: noqa: RUF059
import triton.experimental.gluon.language as gl
from triton.experimental import gluon
from triton.experimental.gluon.language.nvidia.hopper import (
    fence_async_shared,
    mbarrier,
    tma,
    warpgroup_mma,
    warpgroup_mma_wait,
)

from rla_exp.kernels.triton.hopper.inside import by_row, make_matrices, make_written, norm_by_row, product
from rla_exp.kernels.triton.hopper.layout import (
    BETA,
    BY_COLUMN,
    BY_ROW,
    G_BEFORE,
    G_ROW,
    GAMMA,
    NORM_OF_K,
    NORM_OF_Q,
    SQUARE,
    C,
    K,
)
from rla_exp.kernels.triton.hopper.loads import store_async
from rla_exp.kernels.triton.hopper.slots import (
    AFTER_READY,
    BACK_FREE,
    BEFORE_READY,
    HALVES,
    KEYS_AT,
    KEYS_DONE,
    KEYS_NORMAL,
    KEYS_READY,
    SCORES,
    SHARES_FREE,
    SHARES_READY,
    SQUARES,
    ask_for_keys,
    ask_for_state,
    ask_for_system,
    ask_for_values,
    places,
    synchronize,
)
from rla_exp.kernels.triton.plan import ROWS

GATES = gl.constexpr(ROWS)


@gluon.jit
def through_half(
    half: gl.constexpr,
    gates,
    shared,
    keys,
    do,
    back,
    turn,
    scale,
    BLOCKS: gl.constexpr,
    DELTA: gl.constexpr,
    RESIDUAL: gl.constexpr,
    FIT: gl.constexpr,
    SUM: gl.constexpr,
    DECAYED: gl.constexpr,
    NORMALIZE: gl.constexpr,
    SECOND: gl.constexpr,
):
    """dq and dk [C, 64] of one half of the keys' columns; sums [C] over these: q . dq, k . dk of the prediction and of
    what the state gets, and <S, dS> by rows.
    """
    values, solved, reads, before, after, matrices, barriers = shared
    PREDICTED: gl.constexpr = FIT and not SECOND
    zeros = gl.zeros([C, C], gl.float32, SQUARE)
    slot: gl.constexpr = 0 if RESIDUAL else half * BLOCKS
    k_tile = keys.index(KEYS_AT + half)
    scores = matrices.index(SCORES)
    mbarrier.wait(barriers.index(BEFORE_READY + half), turn & 1)
    d_q = product(do, before, zeros, BLOCKS, slot)
    if DELTA:
        held = product(solved, before, zeros, BLOCKS, slot)
    if PREDICTED:
        predicted = product(back, before, zeros, BLOCKS, slot)
    strength = by_row(gates, GAMMA if SECOND else BETA)
    decay = gl.exp(by_row(gates, G_ROW))
    if PREDICTED or (SUM and not SECOND):
        decay_before = gl.exp(by_row(gates, G_BEFORE))
    k_norm = norm_by_row(gates, NORM_OF_K, NORMALIZE)
    read = scale * norm_by_row(gates, NORM_OF_Q, NORMALIZE)
    read *= decay_before if SUM and not SECOND else decay
    if SECOND and not SUM:
        read *= strength
    if DELTA and PREDICTED:
        d_q, held, predicted = warpgroup_mma_wait(0, [d_q, held, predicted])
    elif DELTA:
        d_q, held = warpgroup_mma_wait(0, [d_q, held])
    elif PREDICTED:
        d_q, predicted = warpgroup_mma_wait(0, [d_q, predicted])
    else:
        d_q = warpgroup_mma_wait(0, [d_q])
    along = gl.sum(keys.index(half).load(SQUARE).to(gl.float32) * d_q, 1)
    d_q *= read[:, None]
    d_q = warpgroup_mma(scores, k_tile, d_q, is_async=True)
    d_k = zeros
    if DELTA:
        d_k -= (decay * strength * k_norm)[:, None] * held
    of_prediction = gl.zeros([C], gl.float32, BY_ROW)
    if PREDICTED:
        of_prediction = gl.sum(k_tile.load(SQUARE).to(gl.float32) * predicted, 1) * k_norm
        d_k += ((decay if DECAYED else decay_before) * k_norm)[:, None] * predicted
    d_k = warpgroup_mma(scores.permute((1, 0)), keys.index(half), d_k, is_async=True)
    if DELTA or PREDICTED:
        d_k = warpgroup_mma(matrices.index(SQUARES), k_tile, d_k, is_async=True)
        d_k = warpgroup_mma(matrices.index(SQUARES).permute((1, 0)), k_tile, d_k, is_async=True)
    mbarrier.wait(barriers.index(AFTER_READY + half), turn & 1)
    gotten = product(values, after, zeros, BLOCKS, slot)
    inner = gl.zeros([C], gl.float32, BY_ROW)
    for n in gl.static_range(BLOCKS):
        S = before.index(slot + n).load(SQUARE).to(gl.float32)
        inner += gl.sum(S * after.index(slot + n).load(SQUARE).to(gl.float32), 1)
    to_end = gl.exp(gl.load(gates + G_ROW * C + C - 1) - by_row(gates, G_ROW)) * k_norm
    d_q, d_k, gotten = warpgroup_mma_wait(0, [d_q, d_k, gotten])
    # by itself: what it adds to d_k may be far below the rounding of the rest
    kept = to_end * gl.sum(k_tile.load(SQUARE).to(gl.float32) * gotten, 1)
    d_k += to_end[:, None] * gotten
    return d_q, d_k, along, of_prediction, kept, inner


@gluon.jit
def normalize_tiles(keys, FIRST: gl.constexpr, norm):
    """q or k in place."""
    for n in gl.static_range(HALVES):
        x = keys.index(FIRST + n).load(SQUARE).to(gl.float32) * norm[:, None]
        keys.index(FIRST + n).store(x.to(keys.dtype))


@gluon.jit
def project(d_x, d_x_1, keys, FIRST: gl.constexpr, norm, ROUNDED: gl.constexpr):
    """Of q or k, without what normalizing takes out: what is along x. Halves of the columns.

    ROUNDED: x is normalized.
    """
    x = keys.index(FIRST).load(SQUARE).to(gl.float32)
    x_1 = keys.index(FIRST + 1).load(SQUARE).to(gl.float32)
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
def take_state(
    rows,
    key_tiles,
    state_tiles,
    outputs,
    common,
    shared,
    shares,
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
    keys, do, back, log_a, both = common
    values, solved, reads, before, after, matrices, barriers = shared
    shares_q, shares_k = shares
    dq_tiles, dk_tiles, dg, d_strengths = outputs
    values_tiles, solved_tiles, reads_tiles, inverse_tiles, before_tiles, after_tiles = state_tiles
    T, J0, LS, H = sizes
    BLOCKS: gl.constexpr = V // 64
    INVERSES: gl.constexpr = 2 if RESIDUAL else 1
    dtype: gl.constexpr = values.dtype
    # what the state holds at k takes the place of its gradient
    READS_THERE: gl.constexpr = DELTA and RESIDUAL
    # norms of q and k by row; their products may leave the range of float16, whose tiles are normalized instead
    NORMS: gl.constexpr = NORMALIZE and dtype != gl.float16
    ROUNDED: gl.constexpr = NORMALIZE and dtype == gl.float16
    step = gl.num_programs(0)
    at = gl.program_id(0)
    if not SECOND:
        ask_for_keys(at, key_tiles, common, sizes, BLOCKS)
    if DELTA:
        ask_for_system(at, state_tiles, shared, sizes, BLOCKS, INVERSES, SECOND)
    ask_for_values(at, state_tiles, shared, sizes, BLOCKS)
    ask_for_state(at, 0, 0, before_tiles, before, barriers.index(BEFORE_READY), BLOCKS)
    if not READS_THERE:
        ask_for_state(at, 0, 0, after_tiles, after, barriers.index(AFTER_READY), BLOCKS)
    if not RESIDUAL:
        ask_for_state(at, 1, 1, before_tiles, before, barriers.index(BEFORE_READY + 1), BLOCKS)
        ask_for_state(at, 1, 1, after_tiles, after, barriers.index(AFTER_READY + 1), BLOCKS)
    turn = 0
    while at < total:
        later = at + step
        token, head, place = places(at, sizes)
        gates = rows + at.to(gl.int64) * (GATES * C)
        lam_error, lam_held = make_written(gates, shared, back, both, turn, bound, BLOCKS, DELTA, FIT, CLIPPED, SECOND)
        if READS_THERE:
            ask_for_state(at, 0, 0, after_tiles, after, barriers.index(AFTER_READY), BLOCKS)
        mbarrier.wait(both.index(KEYS_READY), turn & 1)
        if ROUNDED:
            if SECOND:
                mbarrier.wait(both.index(KEYS_NORMAL), turn & 1)
            else:
                normalize_tiles(keys, 0, by_row(gates, NORM_OF_Q))
                normalize_tiles(keys, KEYS_AT, by_row(gates, NORM_OF_K))
                fence_async_shared()
                synchronize()
                mbarrier.arrive(both.index(KEYS_NORMAL), count=1)
        d_strength, d_G, d_G_before = make_matrices(
            gates,
            shared,
            keys,
            do,
            back,
            both,
            turn,
            scale,
            lam_error,
            lam_held,
            BLOCKS,
            DELTA,
            RESIDUAL,
            FIT,
            SUM,
            DECAYED,
            NORMS,
            SECOND,
        )
        d_q, d_k, along, of_prediction, kept, inner = through_half(
            0, gates, shared, keys, do, back, turn, scale,
            BLOCKS, DELTA, RESIDUAL, FIT, SUM, DECAYED, NORMS, SECOND,
        )  # fmt: skip
        synchronize()
        if RESIDUAL:
            ask_for_state(at, 1, 0, before_tiles, before, barriers.index(BEFORE_READY + 1), BLOCKS)
            ask_for_state(at, 1, 0, after_tiles, after, barriers.index(AFTER_READY + 1), BLOCKS)
        elif later < total:
            ask_for_state(later, 0, 0, before_tiles, before, barriers.index(BEFORE_READY), BLOCKS)
            ask_for_state(later, 0, 0, after_tiles, after, barriers.index(AFTER_READY), BLOCKS)
        d_q_1, d_k_1, along_1, of_prediction_1, kept_1, inner_1 = through_half(
            1, gates, shared, keys, do, back, turn, scale,
            BLOCKS, DELTA, RESIDUAL, FIT, SUM, DECAYED, NORMS, SECOND,
        )  # fmt: skip
        synchronize()
        if later < total:
            if RESIDUAL:
                ask_for_state(later, 0, 0, before_tiles, before, barriers.index(BEFORE_READY), BLOCKS)
                if not READS_THERE:
                    ask_for_state(later, 0, 0, after_tiles, after, barriers.index(AFTER_READY), BLOCKS)
            else:
                ask_for_state(later, 1, 1, before_tiles, before, barriers.index(BEFORE_READY + 1), BLOCKS)
                ask_for_state(later, 1, 1, after_tiles, after, barriers.index(AFTER_READY + 1), BLOCKS)
            if DELTA:
                ask_for_system(later, state_tiles, shared, sizes, BLOCKS, INVERSES, SECOND)
        if SECOND:
            mbarrier.arrive(both.index(KEYS_DONE), count=1)
        elif FIT:
            mbarrier.arrive(both.index(BACK_FREE), count=1)

        # the gates
        row = gl.arange(0, C, BY_ROW)
        strength = by_row(gates, GAMMA if SECOND else BETA)
        decay = gl.exp(by_row(gates, G_ROW))
        decay_before = gl.exp(by_row(gates, G_BEFORE))
        along = (along + along_1) * (scale * norm_by_row(gates, NORM_OF_Q, NORMS))
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
                d_G += decay * (of_prediction + of_prediction_1)
            else:
                d_G_before += decay_before * (of_prediction + of_prediction_1)
        # the share of the last row in the state is exp(0) = 1 whatever the gates, and so is exp(G_{t-1}) of the first
        # one: left out of the sums
        kept = gl.where(row == C - 1, 0.0, kept + kept_1)
        d_G_before = gl.where(row == 0, 0.0, d_G_before)
        # G_t is the sum of the decays up to t, and the state gets all of them
        received = gl.convert_layout(d_G + d_G_before - kept, BY_COLUMN)
        column = gl.arange(0, C, BY_COLUMN)
        d_log_a = gl.sum(gl.where(column[None, :] >= row[:, None], received[None, :], 0.0), 1) - d_G_before
        last = gl.exp(gl.load(gates + G_ROW * C + C - 1))
        d_log_a += gl.sum(kept + (inner + inner_1) * last, 0)

        at_gates = token.to(gl.int64) * H + head
        gl.store(d_strengths + at_gates + row * H, d_strength)
        if SECOND:
            log_a.index(0).store(d_log_a)
            shares_q.index(0).store(d_q.to(dtype))
            shares_q.index(1).store(d_q_1.to(dtype))
            shares_k.index(0).store(d_k.to(dtype))
            shares_k.index(1).store(d_k_1.to(dtype))
            synchronize()
            mbarrier.arrive(both.index(SHARES_READY), count=1)
            mbarrier.wait(both.index(SHARES_FREE), turn & 1)
        else:
            if RESIDUAL:
                mbarrier.wait(both.index(SHARES_READY), turn & 1)
                d_log_a += log_a.index(0).load(BY_ROW)
                d_q += shares_q.index(0).load(SQUARE).to(gl.float32)
                d_q_1 += shares_q.index(1).load(SQUARE).to(gl.float32)
                d_k += shares_k.index(0).load(SQUARE).to(gl.float32)
                d_k_1 += shares_k.index(1).load(SQUARE).to(gl.float32)
                synchronize()
                mbarrier.arrive(both.index(SHARES_FREE), count=1)
            gl.store(dg + at_gates + row * H, d_log_a)
            if NORMALIZE:
                d_q, d_q_1 = project(d_q, d_q_1, keys, 0, by_row(gates, NORM_OF_Q), ROUNDED)
                d_k, d_k_1 = project(d_k, d_k_1, keys, KEYS_AT, by_row(gates, NORM_OF_K), ROUNDED)
            # v and lam are of no use any more
            values.index(0).store(d_q.to(dtype))
            values.index(1).store(d_q_1.to(dtype))
            solved.index(0).store(d_k.to(dtype))
            solved.index(1).store(d_k_1.to(dtype))
            fence_async_shared()
            synchronize()
            for n in gl.static_range(HALVES):
                store_async(dq_tiles, [token, head * K + n * 64], values.index(n))
                store_async(dk_tiles, [token, head * K + n * 64], solved.index(n))
            if RESIDUAL:
                mbarrier.wait(both.index(KEYS_DONE), turn & 1)
            if later < total:
                ask_for_keys(later, key_tiles, common, sizes, BLOCKS)
            tma.store_wait(0)
            synchronize()
        if later < total:
            ask_for_values(later, state_tiles, shared, sizes, BLOCKS)
        at = later
        turn += 1
