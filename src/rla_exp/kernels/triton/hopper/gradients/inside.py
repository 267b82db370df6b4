"""The gradients inside a chunk: the [C, C] sums over the columns of V."""

# tuples are unpacked whole
import triton.experimental.gluon.language as gl
from triton.experimental import gluon
from triton.experimental.gluon.language.nvidia.hopper import (
    fence_async_shared,
    warpgroup_mma,
    warpgroup_mma_wait,
)

from rla_exp.kernels.triton.hopper.gates import decays
from rla_exp.kernels.triton.hopper.gradients.slots import (
    BACK,
    DO,
    HALVES,
    SCORES,
    SOLVED,
    SQUARES,
    WRITTEN,
    Q,
    synchronize,
    unknown_zero,
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
    gate,
)


@gluon.jit
def product(tiles, left, right, sums, BLOCKS: gl.constexpr):
    """Starts left right^T over the columns of BLOCKS tiles, from these places on."""
    for n in gl.static_range(BLOCKS):
        sums = warpgroup_mma(
            tiles.index(left + n), tiles.index(right + n).permute((1, 0)), sums, use_acc=n > 0, is_async=True
        )
    return sums


@gluon.jit
def make_matrices(
    gates,
    slot,
    keys,
    tiles,
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
    """Puts what multiplies q and k (in the place keys) of the chunk for dq and dk [C, C] into matrices.

    Returns what the gate's strength, G_t, G_{t-1} and (nothing yet) the decay to the chunk's end receive [C] of them. D
    is 1 on the diagonal, D^- beside it, whatever the gates: those entries are left out of the gates' sums. Where D
    without its diagonal is needed beside D^-, it is D^- times a row's own decay.
    """
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
        d_n = product(tiles, zero + SOLVED, zero + WRITTEN, zeros, BLOCKS)
    if PREDICTED:
        d_predict = product(tiles, zero + BACK, zero + WRITTEN, zeros, BLOCKS)
    if DELTA or PREDICTED:
        KK = warpgroup_mma(
            tiles.index(zero + keys), tiles.index(zero + keys).permute((1, 0)), zeros, use_acc=False, is_async=True
        )
        KK = warpgroup_mma(
            tiles.index(zero + (keys + 1)), tiles.index(zero + (keys + 1)).permute((1, 0)), KK, is_async=True
        )

    G = gate(gates, slot, G_ROW, BY_ROW)
    of_key = gate(gates, slot, G_ROW, BY_COLUMN) * LOG2E
    own = gl.full([C], 1.0, gl.float32, BY_ROW)
    if STRICT:
        G_before = gate(gates, slot, G_BEFORE, BY_ROW)
        own = gl.exp(G - G_before)
        D = decays(G_before * LOG2E, of_key, row > column)
    else:
        D = decays(G * LOG2E, of_key, row >= column)
    strength = gate(gates, slot, GAMMA if SECOND else BETA, BY_ROW)
    k_norm = gl.full([C], 1.0, gl.float32, BY_ROW)
    read = gl.full([C], scale, gl.float32, BY_ROW)
    if NORMALIZE:
        D *= gate(gates, slot, NORM_OF_K, BY_COLUMN)[None, :]
        k_norm = gate(gates, slot, NORM_OF_K, BY_ROW)
        read *= gate(gates, slot, NORM_OF_Q, BY_ROW)
    d_strength = gl.zeros([C], gl.float32, BY_ROW)
    d_G = gl.zeros([C], gl.float32, BY_ROW)
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

    d_qk = product(tiles, zero + DO, zero + WRITTEN, zeros, BLOCKS)
    QK = product(tiles, zero + Q, zero + keys, zeros, HALVES)
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
    return d_strength, d_G, d_G_before, gl.zeros([C], gl.float32, BY_ROW)
