"""The gradients of q and k through a state."""

# tuples are unpacked whole
# ruff: noqa: RUF059
import triton.experimental.gluon.language as gl
from triton.experimental import gluon
from triton.experimental.gluon.language.nvidia.hopper import warpgroup_mma, warpgroup_mma_wait

from rla_exp.kernels.triton.hopper.gradients.inside import product
from rla_exp.kernels.triton.hopper.gradients.slots import (
    AFTER,
    BACK,
    BEFORE,
    DO,
    SCORES,
    SOLVED,
    SQUARES,
    WRITTEN,
    Q,
    unknown_zero,
)
from rla_exp.kernels.triton.hopper.layout import (
    BETA,
    BY_ROW,
    GAMMA,
    GET,
    HOLD,
    NORM_OF_K,
    NORM_OF_Q,
    PREDICT,
    READ_R,
    READ_S,
    SQUARE,
    C,
    gate,
)


@gluon.jit
def scaling(gates, slot, ROW: gl.constexpr, NORM: gl.constexpr, ROUNDED: gl.constexpr):
    """What scales q or k by row; ROUNDED: of tiles that are normalized."""
    x = gate(gates, slot, ROW, BY_ROW)
    if ROUNDED:
        x /= gate(gates, slot, NORM, BY_ROW)
    return x


@gluon.jit
def through_half(
    half: gl.constexpr,
    slot,
    keys,
    received,
    shared,
    BLOCKS: gl.constexpr,
    DELTA: gl.constexpr,
    FIT: gl.constexpr,
    SUM: gl.constexpr,
    DECAYED: gl.constexpr,
    ROUNDED: gl.constexpr,
    SECOND: gl.constexpr,
):
    """dq and dk [C, 64] of one half of the keys' columns; with these columns' shares, what the gate's strength, G_t,
    G_{t-1} and (kept) the decay to the chunk's end have received [C].
    """
    d_strength, d_G, d_G_before, kept = received
    tiles, system, barriers, gates, sums = shared
    PREDICTED: gl.constexpr = FIT and not SECOND
    zeros = gl.zeros([C, C], gl.float32, SQUARE)
    BEFORE_AT: gl.constexpr = BEFORE + 2 * half
    AFTER_AT: gl.constexpr = AFTER + 2 * half
    zero = unknown_zero()
    k_tile = tiles.index(zero + (keys + half))
    scores = tiles.index(zero + SCORES)
    read = scaling(gates, slot, READ_R if SECOND else READ_S, NORM_OF_Q, ROUNDED)
    # few sums at a time, for registers: one is made while the one before is taken
    d_q = product(tiles, zero + DO, zero + BEFORE_AT, zeros, BLOCKS)
    d_k = zeros
    if DELTA:
        held = product(tiles, zero + SOLVED, zero + BEFORE_AT, zeros, BLOCKS)
        d_q = warpgroup_mma_wait(BLOCKS, [d_q])
    elif PREDICTED:
        predicted = product(tiles, zero + BACK, zero + BEFORE_AT, zeros, BLOCKS)
        d_q = warpgroup_mma_wait(BLOCKS, [d_q])
    else:
        d_q = warpgroup_mma_wait(0, [d_q])
    along = read * gl.sum(tiles.index(zero + (Q + half)).load(SQUARE).to(gl.float32) * d_q, 1)
    if SECOND and not SUM:
        d_strength += along
        gamma = gate(gates, slot, GAMMA, BY_ROW)
        along *= gamma
        read *= gamma
    if SUM and not SECOND:
        d_G_before += along
    else:
        d_G += along
    d_q *= read[:, None]
    if DELTA:
        held = warpgroup_mma_wait(0, [held])
        hold = scaling(gates, slot, HOLD, NORM_OF_K, ROUNDED)
        # what is written is what the state was fed less what it holds
        of_held = hold * gl.sum(k_tile.load(SQUARE).to(gl.float32) * held, 1)
        d_strength -= of_held
        strength = gate(gates, slot, GAMMA if SECOND else BETA, BY_ROW)
        d_G -= strength * of_held
        d_k -= (hold * strength)[:, None] * held
    if DELTA and PREDICTED:
        # not before: its sums do not fit beside those of held
        predicted = product(tiles, zero + BACK, zero + BEFORE_AT, zeros, BLOCKS)
    if PREDICTED:
        predicted = warpgroup_mma_wait(0, [predicted])
        predict = scaling(gates, slot, PREDICT, NORM_OF_K, ROUNDED)
        of_prediction = predict * gl.sum(k_tile.load(SQUARE).to(gl.float32) * predicted, 1)
        if DECAYED:
            d_G += of_prediction
        else:
            d_G_before += of_prediction
        d_k += predict[:, None] * predicted
    gotten = product(tiles, zero + WRITTEN, zero + AFTER_AT, zeros, BLOCKS)
    d_q = warpgroup_mma(scores, k_tile, d_q, is_async=True)
    d_k = warpgroup_mma(scores.permute((1, 0)), tiles.index(zero + (Q + half)), d_k, is_async=True)
    if DELTA or PREDICTED:
        d_k = warpgroup_mma(tiles.index(zero + SQUARES), k_tile, d_k, is_async=True)
        d_k = warpgroup_mma(tiles.index(zero + SQUARES).permute((1, 0)), k_tile, d_k, is_async=True)
    to_end = scaling(gates, slot, GET, NORM_OF_K, ROUNDED)
    d_q, d_k, gotten = warpgroup_mma_wait(0, [d_q, d_k, gotten])
    # by itself: what it adds to d_k may be far below the rounding of the rest
    kept += to_end * gl.sum(k_tile.load(SQUARE).to(gl.float32) * gotten, 1)
    d_k += to_end[:, None] * gotten
    return d_q, d_k, (d_strength, d_G, d_G_before, kept)
