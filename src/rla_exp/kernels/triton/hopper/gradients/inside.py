"""The gradients inside a chunk: what is written, and the [C, C] sums over the columns of V."""

# tuples are unpacked whole
# ruff: noqa: RUF059
import triton.experimental.gluon.language as gl
import triton.language as tl
from triton.experimental import gluon
from triton.experimental.gluon.language.nvidia.hopper import (
    fence_async_shared,
    mbarrier,
    tma,
    warpgroup_mma,
    warpgroup_mma_wait,
)

from rla_exp.kernels.triton.hopper.copies import store_async
from rla_exp.kernels.triton.hopper.gradients.slots import (
    BACK,
    DO,
    HALVES,
    KEYS,
    READS,
    READS_READY,
    SCORES,
    SOLVED,
    SQUARES,
    VALUES,
    VALUES_READY,
    Q,
    synchronize,
    unknown_zero,
    whole,
)
from rla_exp.kernels.triton.hopper.layout import (
    BETA,
    BY_COLUMN,
    BY_ROW,
    G_BEFORE,
    G_ROW,
    GAMMA,
    LOG2E,
    NORM_OF_K,
    NORM_OF_Q,
    SQUARE,
    C,
)
from rla_exp.kernels.triton.plan import ROWS

NUM_ROWS = gl.constexpr(ROWS)


@gluon.jit
def gates_of_chunk(rows, at, NORMALIZE: gl.constexpr, SECOND: gl.constexpr):
    """Of a chunk [C]: G_t, G_{t-1}, what scales writes, 1 / |k| and 1 / |q|; and the last G."""
    gates = rows + at.to(gl.int64) * (NUM_ROWS * C)
    row = gl.arange(0, C, BY_ROW)
    G = gl.load(gates + G_ROW * C + row)
    G_before = gl.load(gates + G_BEFORE * C + row)
    strength = gl.load(gates + (GAMMA if SECOND else BETA) * C + row)
    G_last = gl.load(gates + G_ROW * C + C - 1)
    k_norm = gl.full([C], 1.0, gl.float32, BY_ROW)
    q_norm = gl.full([C], 1.0, gl.float32, BY_ROW)
    if NORMALIZE:
        k_norm = gl.load(gates + NORM_OF_K * C + row)
        q_norm = gl.load(gates + NORM_OF_Q * C + row)
    return G, G_before, strength, k_norm, q_norm, G_last


@gluon.jit
def product(tiles, left, right, sums, BLOCKS: gl.constexpr):
    """Starts left right^T over the columns of BLOCKS tiles, from these places on."""
    for n in gl.static_range(BLOCKS):
        sums = warpgroup_mma(
            tiles.index(left + n), tiles.index(right + n).permute((1, 0)), sums, use_acc=n > 0, is_async=True
        )
    return sums


@gluon.jit
def make_written(
    gates,
    shared,
    back_tiles,
    at,
    turn,
    bound,
    BLOCKS: gl.constexpr,
    DELTA: gl.constexpr,
    CLIPPED: gl.constexpr,
    SECOND: gl.constexpr,
):
    """Puts what the state is written with in the place of v (r); of R, what goes back to the prediction into the at-th
    of back_tiles.

    Returns the sums [C] over V of lam times what the right side of the system leaves of the values (error), and of lam
    times what the state holds at k.
    """
    tiles, barriers = shared
    dtype: gl.constexpr = tiles.dtype
    zero = unknown_zero()
    zeros = gl.zeros([C, C], gl.float32, SQUARE)
    G, G_before, strength, k_norm, q_norm, G_last = gates
    decay = gl.exp(G)
    lam_error = gl.zeros([C], gl.float32, BY_ROW)
    lam_held = gl.zeros([C], gl.float32, BY_ROW)
    mbarrier.wait(barriers.index(VALUES_READY), turn & 1)
    if DELTA:
        mbarrier.wait(barriers.index(READS_READY), turn & 1)
    if SECOND:
        # the one before is sent
        tma.store_wait(0)
        synchronize()
    for n in gl.static_range(BLOCKS):
        error = tiles.index(zero + (VALUES + n)).load(SQUARE).to(gl.float32)
        lam = tiles.index(zero + (SOLVED + n)).load(SQUARE).to(gl.float32)
        if SECOND:
            # R was fed v, or r = clip(v - P), which the clip lets through or not
            d_prediction = -strength[:, None] * lam
            if CLIPPED:
                d_prediction = gl.where(gl.abs(error) > bound, 0.0, d_prediction)
            tiles.index(zero + (BACK + n)).store(d_prediction.to(dtype))
        if SECOND and CLIPPED:
            error = gl.minimum(error, bound, propagate_nan=tl.PropagateNan.ALL)
            error = gl.maximum(error, -bound, propagate_nan=tl.PropagateNan.ALL)
        if DELTA:
            at_k = tiles.index(zero + (READS + n)).load(SQUARE).to(gl.float32)
            error -= decay[:, None] * at_k
            lam_held += gl.sum(lam * at_k, 1)
        lam_error += gl.sum(lam * error, 1)
        tiles.index(zero + (VALUES + n)).store((strength[:, None] * error).to(dtype))
    fence_async_shared()
    synchronize()
    if SECOND:
        store_async(back_tiles, [at * C, 0], whole(tiles, BACK, BLOCKS))
    if DELTA:
        U = warpgroup_mma(tiles.index(zero + SCORES), tiles.index(zero + VALUES), zeros, use_acc=False, is_async=True)
        if BLOCKS == 2:
            U_1 = warpgroup_mma(
                tiles.index(zero + SCORES),
                tiles.index(zero + (VALUES + 1)),
                zeros,
                use_acc=False,
                is_async=True,
            )
            U, U_1 = warpgroup_mma_wait(0, [U, U_1])
        else:
            U = warpgroup_mma_wait(0, [U])
        # not before all warps have read what is overwritten
        synchronize()
        tiles.index(zero + VALUES).store(U.to(dtype))
        if BLOCKS == 2:
            tiles.index(zero + (VALUES + 1)).store(U_1.to(dtype))
        fence_async_shared()
        synchronize()
    return lam_error, lam_held


@gluon.jit
def make_matrices(
    gates,
    shared,
    scale,
    lam_error,
    lam_held,
    BLOCKS: gl.constexpr,
    DELTA: gl.constexpr,
    RESIDUAL: gl.constexpr,
    FIT: gl.constexpr,
    SUM: gl.constexpr,
    DECAYED: gl.constexpr,
    NORMALIZE: gl.constexpr,
    SECOND: gl.constexpr,
):
    """Puts what multiplies q and k of the chunk for dq and dk [C, C] into matrices.

    Returns what the gate's strength and G_t and G_{t-1} receive [C] inside the chunk. D is 1 on the diagonal, D^-
    beside it, whatever the gates: those entries are left out of the gates' sums. Where D without its diagonal is needed
    beside D^-, it is D^- times a row's own decay.
    """
    tiles, barriers = shared
    PREDICTED: gl.constexpr = FIT and not SECOND
    # how o reads the state: with D^- or D, without or with the diagonal, and scaled by gamma or not
    BEFORE: gl.constexpr = SUM and not SECOND
    STRICT: gl.constexpr = RESIDUAL and not SECOND
    GATED: gl.constexpr = SECOND and not SUM
    dtype: gl.constexpr = tiles.dtype
    zero = unknown_zero()
    zeros = gl.zeros([C, C], gl.float32, SQUARE)
    row = gl.arange(0, C, BY_ROW)[:, None]
    column = gl.arange(0, C, BY_COLUMN)[None, :]
    if DELTA:
        d_n = product(tiles, zero + SOLVED, zero + VALUES, zeros, BLOCKS)
    if PREDICTED:
        d_predict = product(tiles, zero + BACK, zero + VALUES, zeros, BLOCKS)
    if DELTA or PREDICTED:
        KK = warpgroup_mma(
            tiles.index(zero + KEYS), tiles.index(zero + KEYS).permute((1, 0)), zeros, use_acc=False, is_async=True
        )
        KK = warpgroup_mma(
            tiles.index(zero + (KEYS + 1)), tiles.index(zero + (KEYS + 1)).permute((1, 0)), KK, is_async=True
        )

    G, G_before, strength, k_norm, q_norm, G_last = gates
    decay = gl.exp(G)
    of_key = gl.convert_layout(G, BY_COLUMN)
    if STRICT:
        own = gl.exp(G - G_before)
        exponents = gl.where(row > column, G_before[:, None] - of_key[None, :], float("-inf"))
    else:
        own = gl.full([C], 1.0, gl.float32, BY_ROW)
        exponents = gl.where(row >= column, G[:, None] - of_key[None, :], float("-inf"))
    D = gl.exp2(exponents * LOG2E)
    if NORMALIZE:
        D *= gl.convert_layout(k_norm, BY_COLUMN)[None, :]
    d_strength = lam_error
    d_G = -decay * strength * lam_held
    d_G_before = gl.zeros([C], gl.float32, BY_ROW)
    theta = zeros
    if DELTA or PREDICTED:
        if DELTA and PREDICTED:
            d_n, d_predict, KK = warpgroup_mma_wait(0, [d_n, d_predict, KK])
        elif DELTA:
            d_n, KK = warpgroup_mma_wait(0, [d_n, KK])
        else:
            d_predict, KK = warpgroup_mma_wait(0, [d_predict, KK])
        KK *= D
        d_kk = zeros
        if DELTA:
            d_n *= (own * k_norm)[:, None]
            if not STRICT:
                d_n = gl.where(row > column, d_n, 0.0)
            share = gl.sum(KK * d_n, 1)
            d_strength -= share
            d_G -= strength * share
            d_kk = -strength[:, None] * d_n
            theta = KK * d_kk
        if PREDICTED:
            if DECAYED:
                d_predict *= (own * k_norm)[:, None]
                d_theta = KK * d_predict
                d_G += gl.sum(d_theta, 1)
            else:
                d_predict *= k_norm[:, None]
                d_theta = gl.where(row > column + 1, KK * d_predict, 0.0)
                d_G_before += gl.sum(d_theta, 1)
            theta += d_theta
            d_kk += d_predict
        tiles.index(zero + SQUARES).store((d_kk * D).to(dtype))

    d_qk = product(tiles, zero + DO, zero + VALUES, zeros, BLOCKS)
    QK = product(tiles, zero + Q, zero + KEYS, zeros, HALVES)
    read = scale * q_norm
    d_qk, QK = warpgroup_mma_wait(0, [d_qk, QK])
    d_qk *= D
    d_theta = QK * d_qk
    if BEFORE:
        reading = read
        d_theta = gl.where(row > column + 1, d_theta, 0.0) * reading[:, None]
        d_G_before += gl.sum(d_theta, 1)
    else:
        reading = read * own
        if GATED:
            d_strength += read * gl.sum(d_theta, 1)
            reading *= strength
        if not STRICT:
            d_theta = gl.where(row > column, d_theta, 0.0)
        d_theta *= reading[:, None]
        d_G += gl.sum(d_theta, 1)
    theta += d_theta
    d_G -= gl.convert_layout(gl.sum(theta, 0), BY_ROW)
    tiles.index(zero + SCORES).store((d_qk * reading[:, None]).to(dtype))
    fence_async_shared()
    synchronize()
    return d_strength, d_G, d_G_before
