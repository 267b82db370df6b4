"""The warps that carry the gradient of S, and those that carry that of R."""

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

from rla_exp.kernels.triton.hopper.copies import store_async
from rla_exp.kernels.triton.hopper.layout import (
    BETA,
    BV,
    BY_COLUMN,
    DECAY,
    GAMMA,
    GET,
    HOLD,
    LEFT,
    LEFT_OF_STATE,
    PREDICT,
    READ_R,
    READ_S,
    SQUARE,
    STATE,
    C,
    K,
    as_left,
    gate,
    load_state,
    store_state,
)
from rla_exp.kernels.triton.hopper.reverse.layout import (
    DONE,
    GATES_READY,
    KEYS_READY,
    LEFT_DV,
    LEFT_SOLVED_R,
    LEFT_SOLVED_S,
    REST_FREE,
    REST_READY,
    SCORES_PREDICT,
    SCORES_R,
    SCORES_R_FREE,
    SCORES_R_READY,
    SCORES_S,
    SCORES_S_FREE,
    SCORES_S_READY,
    SMALLEST,
    SOLVED_FREE,
    SOLVED_READY,
)


@gluon.jit
def largest_scale(gates, slot, DELTA: gl.constexpr, PREDICTED: gl.constexpr, SECOND: gl.constexpr):
    """Of what scales the rows that reach the gradient before a chunk. A negative scale of q is allowed."""
    largest = gl.max(gl.abs(gate(gates, slot, READ_R if SECOND else READ_S, BY_COLUMN)), 0)
    if DELTA:
        largest = gl.maximum(largest, gl.max(gate(gates, slot, HOLD, BY_COLUMN), 0))
    if PREDICTED:
        largest = gl.maximum(largest, gl.max(gate(gates, slot, PREDICT, BY_COLUMN), 0))
    return gl.maximum(largest, SMALLEST)


@gluon.jit
def carry_gradient(
    d_state,
    stored,
    shared,
    sizes,
    bound,
    V: gl.constexpr,
    DELTA: gl.constexpr,
    RESIDUAL: gl.constexpr,
    FIT: gl.constexpr,
    CLIPPED: gl.constexpr,
    SUM: gl.constexpr,
    SLOTS: gl.constexpr,
    TURNS: gl.constexpr,
    SECOND: gl.constexpr,
):
    """Of S, or (SECOND) of R, whose solution [BV, C] goes to the warps of S: what R was fed came from S.

    The gradient is transposed, [BV, K], as are states in the forward pass.
    """
    keys, rest, scores, leaving, after, gates, barriers = shared
    after_tiles, solved_tiles, dv_tiles = stored
    token, chunks, k_at, v0, v_at, H, at, inverse_at = sizes
    dtype: gl.constexpr = keys.dtype
    FOLLOWS: gl.constexpr = RESIDUAL and not SECOND
    PREDICTED: gl.constexpr = FIT and not SECOND
    FLOAT16: gl.constexpr = dtype == gl.float16
    SYSTEM: gl.constexpr = (2 if CLIPPED else 1) + (1 if SECOND else 0)
    SCORES: gl.constexpr = SCORES_R if SECOND else SCORES_S
    SCORES_READY: gl.constexpr = SCORES_R_READY if SECOND else SCORES_S_READY
    SCORES_FREE: gl.constexpr = SCORES_R_FREE if SECOND else SCORES_S_FREE
    LEFT_SOLVED: gl.constexpr = LEFT_SOLVED_R if SECOND else LEFT_SOLVED_S
    # tiles leave in turn: the place of the next one is that of the earliest under way
    UNDER_WAY: gl.constexpr = 1 if SECOND else 2
    zeros = gl.zeros([BV, C], gl.float32, SQUARE)
    dS = load_state(d_state, V, True)
    for j in range(chunks):
        slot = j % SLOTS
        turn = j % TURNS
        k_tile = keys.index(slot)
        mbarrier.wait(barriers.index(KEYS_READY + slot), (j // SLOTS) & 1)
        dS_low = gl.convert_layout(dS.to(dtype), LEFT_OF_STATE)
        lam = warpgroup_mma(dS_low, k_tile.permute((1, 0)), zeros, use_acc=False, is_async=True)
        tma.store_wait(UNDER_WAY)
        after.index(1 if SECOND else 0).permute((1, 0)).store(dS.to(dtype))
        fence_async_shared()
        store_async(after_tiles, [(at - j * H) * K, v0], after.index(1 if SECOND else 0))
        mbarrier.wait(barriers.index(REST_READY + turn), (j // TURNS) & 1)
        mbarrier.wait(barriers.index(GATES_READY + slot), (j // SLOTS) & 1)
        lam, dS = warpgroup_mma_wait(0, [lam, dS])
        lam *= gate(gates, slot, GET, BY_COLUMN)[None, :]
        do_tile = rest.index(turn).permute((1, 0))
        read = gate(gates, slot, READ_R if SECOND else READ_S, BY_COLUMN)
        kept = gate(gates, slot, DECAY, gl.SliceLayout(1, STATE))
        if FLOAT16:
            # strong decays make these rows smaller than its normal numbers: the largest is made 1 meanwhile
            largest = largest_scale(gates, slot, DELTA, PREDICTED, SECOND)
            read /= largest
            kept /= largest
        if SECOND and not SUM:
            read *= gate(gates, slot, GAMMA, BY_COLUMN)
        d_read = do_tile.load(SQUARE).to(gl.float32) * read[None, :]
        dS *= kept[:, None]
        dS = warpgroup_mma(
            gl.convert_layout(d_read.to(dtype), LEFT_OF_STATE), keys.index(SLOTS + turn), dS, is_async=True
        )
        mbarrier.wait(barriers.index(SCORES_READY), j & 1)
        lam = warpgroup_mma(do_tile, scores.index(SCORES), lam, is_async=True)
        if FOLLOWS:
            mbarrier.wait(barriers.index(SOLVED_READY), j & 1)
            back = leaving.index(LEFT_SOLVED_R).permute((1, 0)).load(SQUARE).to(gl.float32)
            mbarrier.arrive(barriers.index(SOLVED_FREE), count=1)
            back *= -gate(gates, slot, GAMMA, BY_COLUMN)[None, :]
            if CLIPPED:
                # R was fed r = clip(v - P), which the clip lets through or not
                r = rest.index(TURNS + turn).permute((1, 0)).load(SQUARE).to(gl.float32)
                back = gl.where(gl.abs(r) > bound, 0.0, back)
            back = back.to(dtype)
            if PREDICTED:
                lam = warpgroup_mma(gl.convert_layout(back, LEFT), scores.index(SCORES_PREDICT), lam, is_async=True)
        lam, dS = warpgroup_mma_wait(0, [lam, dS])
        mbarrier.arrive(barriers.index(SCORES_FREE), count=1)
        if DELTA:
            lam_low = as_left(lam, dtype)
            lam = warpgroup_mma(lam_low, rest.index(SYSTEM * TURNS + turn), zeros, use_acc=False, is_async=True)
            lam = warpgroup_mma_wait(0, [lam])
        if not SECOND:
            # nobody reads the chunk's tiles any more but k: R's solution came after its last product with them
            mbarrier.arrive(barriers.index(REST_FREE + turn), count=1)
        tma.store_wait(UNDER_WAY)
        if SECOND:
            mbarrier.wait(barriers.index(SOLVED_FREE), (j - 1) & 1, pred=j >= 1)
        leaving.index(LEFT_SOLVED).permute((1, 0)).store(lam.to(dtype))
        fence_async_shared()
        if SECOND:
            mbarrier.arrive(barriers.index(SOLVED_READY), count=1)
        store_async(solved_tiles, [(at - j * H) * C, v0], leaving.index(LEFT_SOLVED))
        d_value = lam * gate(gates, slot, GAMMA if SECOND else BETA, BY_COLUMN)[None, :]
        if DELTA or PREDICTED:
            d_at_k = zeros
            if DELTA:
                hold = gate(gates, slot, HOLD, BY_COLUMN)
                if FLOAT16:
                    hold /= largest
                d_at_k -= hold[None, :] * d_value
            if PREDICTED:
                predict = gate(gates, slot, PREDICT, BY_COLUMN)
                if FLOAT16:
                    predict /= largest
                d_at_k += predict[None, :] * back.to(gl.float32)
            dS = warpgroup_mma(gl.convert_layout(d_at_k.to(dtype), LEFT_OF_STATE), k_tile, dS, is_async=True)
        if not SECOND:
            if RESIDUAL:
                d_value -= back.to(gl.float32)
            tma.store_wait(UNDER_WAY)
            leaving.index(LEFT_DV).permute((1, 0)).store(d_value.to(dtype))
            fence_async_shared()
            store_async(dv_tiles, [token - j * C, v_at], leaving.index(LEFT_DV))
        if DELTA or PREDICTED:
            dS = warpgroup_mma_wait(0, [dS])
        if FLOAT16:
            dS *= largest
        mbarrier.arrive(barriers.index(DONE + slot), count=1)
    store_state(d_state, dS, V)
    tma.store_wait(0)
