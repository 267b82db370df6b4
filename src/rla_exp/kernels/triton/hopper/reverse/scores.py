"""The warps of the reverse pass that make what depends on q, k and the gates alone."""

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

from rla_exp.kernels.triton.hopper.gates import decays, load_gates
from rla_exp.kernels.triton.hopper.layout import (
    BY_COLUMN,
    BY_ROW,
    G_BEFORE,
    G_ROW,
    GAMMA,
    LOG2E,
    NORM_OF_K,
    NORM_OF_Q,
    PARTS,
    SQUARE,
    C,
    gate,
    here,
)
from rla_exp.kernels.triton.hopper.reverse.layout import (
    DONE,
    GATES_READY,
    KEYS_READY,
    REST_READY,
    SCORES_PREDICT,
    SCORES_R,
    SCORES_R_FREE,
    SCORES_R_READY,
    SCORES_S,
    SCORES_S_FREE,
    SCORES_S_READY,
)


@gluon.jit
def make_scores(
    rows,
    shared,
    sizes,
    RESIDUAL: gl.constexpr,
    FIT: gl.constexpr,
    SUM: gl.constexpr,
    DECAYED: gl.constexpr,
    NORMALIZE: gl.constexpr,
    SLOTS: gl.constexpr,
    TURNS: gl.constexpr,
):
    """A, A_s and N', each [reader, key]; T_b is not multiplied into them: the states' warps do that at once for all."""
    keys, rest, scores, leaving, after, gates, barriers = shared
    chunks, at, H, scale = sizes
    dtype: gl.constexpr = keys.dtype
    zeros = gl.zeros([C, C], gl.float32, SQUARE)

    of_chunk = load_gates(rows, at)
    for j in range(chunks):
        slot = j % SLOTS
        mbarrier.wait(barriers.index(DONE + slot), (j // SLOTS - 1) & 1, pred=j >= SLOTS)
        for n in gl.static_range(PARTS):
            gates.index(slot * PARTS + n).store(of_chunk[n])
        mbarrier.arrive(barriers.index(GATES_READY + slot), count=1)
        # a chunk ahead: nothing hides the time that it takes
        at -= 0 if j + 1 == chunks else H
        of_chunk = load_gates(rows, at)

        row = here(gl.arange(0, C, BY_ROW))
        column = here(gl.arange(0, C, BY_COLUMN))
        turn = j % TURNS
        k_tile = keys.index(slot)
        mbarrier.wait(barriers.index(KEYS_READY + slot), (j // SLOTS) & 1)
        mbarrier.wait(barriers.index(REST_READY + turn), (j // TURNS) & 1)
        QK = warpgroup_mma(keys.index(SLOTS + turn), k_tile.permute((1, 0)), zeros, use_acc=False, is_async=True)
        of_key = gate(gates, slot, G_ROW, BY_COLUMN) * LOG2E
        QK = warpgroup_mma_wait(0, [QK])
        if NORMALIZE:
            QK *= gate(gates, slot, NORM_OF_Q, BY_ROW)[:, None] * gate(gates, slot, NORM_OF_K, BY_COLUMN)[None, :]
        of_reader = gate(gates, slot, G_ROW, BY_ROW) * LOG2E
        score = scale * QK * decays(of_reader, of_key, row[:, None] >= column[None, :])
        if RESIDUAL:
            if SUM:
                score_R = score
                of_reader = gate(gates, slot, G_BEFORE, BY_ROW) * LOG2E
                score_S = scale * QK * decays(of_reader, of_key, row[:, None] > column[None, :])
            else:
                score_R = score * gate(gates, slot, GAMMA, BY_ROW)[:, None]
                score_S = gl.where(row[:, None] > column[None, :], score, 0.0)
            low_S = score_S.to(dtype)
            mbarrier.wait(barriers.index(SCORES_R_FREE), (j - 1) & 1, pred=j >= 1)
            scores.index(SCORES_R).store(score_R.to(dtype))
            fence_async_shared()
            mbarrier.arrive(barriers.index(SCORES_R_READY), count=1)
        else:
            low_S = score.to(dtype)
        if FIT:
            KK = warpgroup_mma(k_tile, k_tile.permute((1, 0)), zeros, use_acc=False, is_async=True)
            of_reader = gate(gates, slot, G_ROW if DECAYED else G_BEFORE, BY_ROW) * LOG2E
            KK = warpgroup_mma_wait(0, [KK])
            predict = KK * decays(of_reader, of_key, row[:, None] > column[None, :])
            if NORMALIZE:
                predict *= (
                    gate(gates, slot, NORM_OF_K, BY_ROW)[:, None] * gate(gates, slot, NORM_OF_K, BY_COLUMN)[None, :]
                )
        mbarrier.wait(barriers.index(SCORES_S_FREE), (j - 1) & 1, pred=j >= 1)
        scores.index(SCORES_S).store(low_S)
        if FIT:
            scores.index(SCORES_PREDICT).store(predict.to(dtype))
        fence_async_shared()
        mbarrier.arrive(barriers.index(SCORES_S_READY), count=1)
