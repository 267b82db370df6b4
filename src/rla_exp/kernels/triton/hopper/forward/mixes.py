"""The warps that make what depends on q, k and the gates alone."""

# tuples are unpacked whole
# ruff: noqa: RUF059
import triton.experimental.gluon.language as gl
from triton.experimental import gluon
from triton.experimental.gluon.language.nvidia.hopper import (
    fence_async_shared,
    mbarrier,
    warpgroup_mma,
    warpgroup_mma_wait,
)

from rla_exp.kernels.triton.hopper.copies import load_async
from rla_exp.kernels.triton.hopper.forward.layout import (
    DONE,
    GATES_READY,
    KEYS_AT,
    KEYS_READY,
    MIX_R_READY,
    MIX_S_FREE,
    MIX_S_READY,
    MIXES_R,
    MIXES_REST,
    MIXES_S,
    REST_READY,
    SLOTS,
    SYSTEMS_REST,
    rest,
)
from rla_exp.kernels.triton.hopper.gates import decays, load_gates
from rla_exp.kernels.triton.hopper.layout import (
    BY_COLUMN,
    BY_ROW,
    G_BEFORE,
    G_ROW,
    LEFT,
    LOG2E,
    NORM_OF_K,
    NORM_OF_Q,
    PARTS,
    SQUARE,
    C,
    gate,
)


@gluon.jit
def make_mixes(
    inverse_rest_tiles,
    rows,
    shared,
    sizes,
    DELTA: gl.constexpr,
    RESIDUAL: gl.constexpr,
    FIRST: gl.constexpr,
    SECOND: gl.constexpr,
    FIT: gl.constexpr,
    SUM: gl.constexpr,
    DECAYED: gl.constexpr,
    NORMALIZE: gl.constexpr,
    REST: gl.constexpr,
):
    keys, systems, mixes, values, gates, barriers = shared
    chunks, at, H, scale = sizes
    dtype: gl.constexpr = keys.dtype
    # for R by itself nothing is predicted: r is there
    PREDICTS: gl.constexpr = FIT and FIRST
    row = gl.arange(0, C, BY_ROW)
    column = gl.arange(0, C, BY_COLUMN)
    zeros = gl.zeros([C, C], gl.float32, SQUARE)

    of_chunk = load_gates(rows, at)
    for j in range(chunks):
        slot = j % SLOTS
        pair = j % 2
        if REST:
            mbarrier.expect(barriers.index(REST_READY), C * C * 2)
            load_async(inverse_rest_tiles, [at * C, 0], barriers.index(REST_READY), systems.index(SYSTEMS_REST))
        # the chunk before the last one made room
        mbarrier.wait(barriers.index(DONE + (j + 1) % SLOTS), ((j - 2) // SLOTS) & 1, pred=j >= 2)
        for n in gl.static_range(PARTS):
            gates.index(slot * PARTS + n).store(of_chunk[n])
        at += H
        # a chunk ahead: nothing hides the time that it takes
        of_chunk = load_gates(rows, at - (H if j + 1 == chunks else 0))

        k_tile = keys.index(KEYS_AT + slot)
        mbarrier.wait(barriers.index(KEYS_READY + slot), (j // SLOTS) & 1)
        if PREDICTS:
            KK = warpgroup_mma(k_tile, k_tile.permute((1, 0)), zeros, use_acc=False, is_async=True)
        else:
            QK = warpgroup_mma(keys.index(slot), k_tile.permute((1, 0)), zeros, use_acc=False, is_async=True)
        of_key = gate(gates, slot, G_ROW, BY_COLUMN) * LOG2E
        if PREDICTS:
            KK = warpgroup_mma_wait(0, [KK])
            of_reader = gate(gates, slot, G_ROW if DECAYED else G_BEFORE, BY_ROW) * LOG2E
            predict = KK * decays(of_reader, of_key, row[:, None] > column[None, :])
            if NORMALIZE:
                predict *= (
                    gate(gates, slot, NORM_OF_K, BY_ROW)[:, None] * gate(gates, slot, NORM_OF_K, BY_COLUMN)[None, :]
                )
            low = predict.to(dtype)
            predict_rest = rest(predict, low)
            if DELTA:
                # with near-collinear keys an error of either operand would stay in all later rows
                T_b = systems.index(slot)
                low_left = gl.convert_layout(low, LEFT)
                rest_left = gl.convert_layout(predict_rest, LEFT)
                sum = warpgroup_mma(rest_left, T_b, zeros, use_acc=False, is_async=True)
                if REST:
                    mbarrier.wait(barriers.index(REST_READY), j & 1)
                    sum = warpgroup_mma(low_left, systems.index(SYSTEMS_REST), sum, is_async=True)
                sum = warpgroup_mma(low_left, T_b, sum, is_async=True)
                sum = warpgroup_mma_wait(0, [sum])
                mixes.index(pair).store(sum.to(dtype))
            else:
                mixes.index(pair).store(low)
                mixes.index(MIXES_REST + pair).store(predict_rest)
            fence_async_shared()
            QK = warpgroup_mma(keys.index(slot), k_tile.permute((1, 0)), zeros, use_acc=False, is_async=True)
        mbarrier.arrive(barriers.index(GATES_READY + pair), count=1)

        QK = warpgroup_mma_wait(0, [QK])
        if NORMALIZE:
            QK *= gate(gates, slot, NORM_OF_Q, BY_ROW)[:, None] * gate(gates, slot, NORM_OF_K, BY_COLUMN)[None, :]
        of_reader = gate(gates, slot, G_ROW, BY_ROW) * LOG2E
        score = scale * QK * decays(of_reader, of_key, row[:, None] >= column[None, :])
        if FIRST:
            if not RESIDUAL:
                score_S = score
            elif SUM:
                of_reader = gate(gates, slot, G_BEFORE, BY_ROW) * LOG2E
                score_S = scale * QK * decays(of_reader, of_key, row[:, None] > column[None, :])
            else:
                score_S = gl.where(row[:, None] > column[None, :], score, 0.0)
            low = score_S.to(dtype)
            mbarrier.wait(barriers.index(MIX_S_FREE), (j - 1) & 1, pred=j >= 1)
            mixes.index(MIXES_S).store(low)
            fence_async_shared()
            mbarrier.arrive(barriers.index(MIX_S_READY), count=1)
        if SECOND:
            mixes.index(MIXES_R + pair).store(score.to(dtype))
            fence_async_shared()
            mbarrier.arrive(barriers.index(MIX_R_READY + pair), count=1)
