"""The gradients of q and k through a state."""

import triton.experimental.gluon.language as gl
from triton.experimental import gluon
from triton.experimental.gluon.language.nvidia.hopper import mbarrier, warpgroup_mma, warpgroup_mma_wait

from rla_exp.kernels.triton.hopper.gradients.inside import product
from rla_exp.kernels.triton.hopper.gradients.slots import (
    AFTER,
    AFTER_READY,
    BACK,
    BEFORE,
    BEFORE_READY,
    DO,
    KEYS,
    SCORES,
    SOLVED,
    SQUARES,
    VALUES,
    Q,
    unknown_zero,
)
from rla_exp.kernels.triton.hopper.layout import (
    BY_ROW,
    SQUARE,
    C,
)


@gluon.jit
def through_half(
    half: gl.constexpr,
    gates,
    shared,
    turn,
    scale,
    BLOCKS: gl.constexpr,
    DELTA: gl.constexpr,
    FIT: gl.constexpr,
    SUM: gl.constexpr,
    DECAYED: gl.constexpr,
    SECOND: gl.constexpr,
):
    """dq and dk [C, 64] of one half of the keys' columns; sums [C] over these: q . dq, k . dk of the prediction and of
    what the state gets, and <S, dS> by rows.
    """
    tiles, barriers = shared
    PREDICTED: gl.constexpr = FIT and not SECOND
    zeros = gl.zeros([C, C], gl.float32, SQUARE)
    BEFORE_AT: gl.constexpr = BEFORE + 2 * half
    AFTER_AT: gl.constexpr = AFTER + 2 * half
    zero = unknown_zero()
    k_tile = tiles.index(zero + (KEYS + half))
    scores = tiles.index(zero + SCORES)
    G, G_before, strength, k_norm, q_norm, G_last = gates
    decay = gl.exp(G)
    decay_before = gl.exp(G_before)
    read = scale * q_norm * (decay_before if SUM and not SECOND else decay)
    if SECOND and not SUM:
        read *= strength
    # few sums at a time, for registers: one is made while the one before is taken
    mbarrier.wait(barriers.index(BEFORE_READY + half), turn & 1)
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
    along = gl.sum(tiles.index(zero + (Q + half)).load(SQUARE).to(gl.float32) * d_q, 1)
    d_q *= read[:, None]
    of_prediction = gl.zeros([C], gl.float32, BY_ROW)
    if DELTA:
        held = warpgroup_mma_wait(0, [held])
        if PREDICTED:
            predicted = product(tiles, zero + BACK, zero + BEFORE_AT, zeros, BLOCKS)
        d_k -= (decay * strength * k_norm)[:, None] * held
    if PREDICTED:
        predicted = warpgroup_mma_wait(0, [predicted])
        of_prediction = gl.sum(k_tile.load(SQUARE).to(gl.float32) * predicted, 1) * k_norm
        d_k += ((decay if DECAYED else decay_before) * k_norm)[:, None] * predicted
    mbarrier.wait(barriers.index(AFTER_READY + half), turn & 1)
    gotten = product(tiles, zero + VALUES, zero + AFTER_AT, zeros, BLOCKS)
    d_q = warpgroup_mma(scores, k_tile, d_q, is_async=True)
    d_k = warpgroup_mma(scores.permute((1, 0)), tiles.index(zero + (Q + half)), d_k, is_async=True)
    if DELTA or PREDICTED:
        d_k = warpgroup_mma(tiles.index(zero + SQUARES), k_tile, d_k, is_async=True)
        d_k = warpgroup_mma(tiles.index(zero + SQUARES).permute((1, 0)), k_tile, d_k, is_async=True)
    inner = gl.zeros([C], gl.float32, BY_ROW)
    for n in gl.static_range(BLOCKS):
        S = tiles.index(zero + (BEFORE_AT + n)).load(SQUARE).to(gl.float32)
        inner += gl.sum(S * tiles.index(zero + (AFTER_AT + n)).load(SQUARE).to(gl.float32), 1)
    to_end = gl.exp(G_last - G) * k_norm
    d_q, d_k, gotten = warpgroup_mma_wait(0, [d_q, d_k, gotten])
    # by itself: what it adds to d_k may be far below the rounding of the rest
    kept = to_end * gl.sum(k_tile.load(SQUARE).to(gl.float32) * gotten, 1)
    d_k += to_end[:, None] * gotten
    return d_q, d_k, along, of_prediction, kept, inner
