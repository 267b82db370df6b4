"""The warps that carry S, and those that carry R."""

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
from rla_exp.kernels.triton.hopper.forward.layout import (
    BATCH,
    BEYOND,
    DONE,
    GATES_READY,
    KEYS_AT,
    KEYS_READY,
    LATE_READY,
    MIX_R_READY,
    MIX_S_FREE,
    MIX_S_READY,
    MIXES_R,
    MIXES_REST,
    MIXES_S,
    O_FREE,
    O_READY,
    R_FREE,
    R_READY,
    SLOTS,
    SYSTEMS_Y,
    VALUES_O,
    VALUES_O_ALONE,
    VALUES_R,
    bounded_by_twos,
    rest,
)
from rla_exp.kernels.triton.hopper.forward.loads import ask_for_first, ask_for_next
from rla_exp.kernels.triton.hopper.layout import (
    BETA,
    BV,
    BY_COLUMN,
    DECAY,
    GAMMA,
    GET,
    HOLD,
    LEFT_OF_STATE,
    PREDICT,
    READ_R,
    READ_S,
    SQUARE,
    STATE,
    C,
    K,
    as_left,
    bounded,
    gate,
    load_state,
    store_state,
)


@gluon.jit
def carry_state(
    initial,
    tiles,
    shared,
    stored,
    sizes,
    clips,
    V: gl.constexpr,
    DELTA: gl.constexpr,
    RESIDUAL: gl.constexpr,
    SECOND: gl.constexpr,
    FIT: gl.constexpr,
    CLIPPED: gl.constexpr,
    BETWEEN: gl.constexpr,
    HAS_INITIAL: gl.constexpr,
    KEEP: gl.constexpr,
):
    keys, systems, mixes, values, gates, barriers = shared
    r_tiles, o_tiles, checkpoints, final = stored
    clip, clip_inside, clip_outside = clips
    start, chunks, v_at, H, k_at, at = sizes
    dtype: gl.constexpr = keys.dtype
    zeros = gl.zeros([BV, C], gl.float32, SQUARE)
    # R, carried beside it, takes r and o from shared memory, sends o and asks for tiles
    if not SECOND:
        ask_for_first(tiles, sizes, shared, DELTA, RESIDUAL, True, SECOND)
    S = load_state(initial, V, HAS_INITIAL)
    for j in range(chunks):
        slot = j % SLOTS
        pair = j % 2
        token = start + j * C
        k_tile = keys.index(KEYS_AT + slot)
        if KEEP:
            if j % BATCH == 0:
                store_state(checkpoints + (j // BATCH * H).to(gl.int64) * (K * V), S, V)
        mbarrier.wait(barriers.index(KEYS_READY + slot), (j // SLOTS) & 1)
        S_low = gl.convert_layout(S.to(dtype), LEFT_OF_STATE)
        if DELTA or FIT:
            at_k = warpgroup_mma(S_low, k_tile.permute((1, 0)), zeros, use_acc=False, is_async=True)
        mbarrier.wait(barriers.index(LATE_READY + pair), (j // 2) & 1)
        mbarrier.wait(barriers.index(GATES_READY + pair), (j // 2) & 1)
        if DELTA or FIT:
            at_k, S = warpgroup_mma_wait(0, [at_k, S])
        v = values.index(pair).permute((1, 0)).load(SQUARE).to(gl.float32)
        written = v
        if FIT:
            if HAS_INITIAL:
                if j == 0:
                    # after strong decays the first token alone decides the gradient of the initial state: one entry
                    # that a rounded state moves over the clip's bound would show whole there
                    S_rest = gl.convert_layout(rest(S, S.to(dtype)), LEFT_OF_STATE)
                    at_k = warpgroup_mma(S_rest, k_tile.permute((1, 0)), at_k)
            # what S predicts, less v: r with the other sign
            error = at_k * gate(gates, slot, PREDICT, BY_COLUMN)[None, :] - v
        if DELTA:
            written -= gate(gates, slot, HOLD, BY_COLUMN)[None, :] * at_k
        written *= gate(gates, slot, BETA, BY_COLUMN)[None, :]
        low = as_left(written, dtype)
        if DELTA:
            U = warpgroup_mma(low, systems.index(slot).permute((1, 0)), zeros, use_acc=False, is_async=True)
        if FIT:
            error = warpgroup_mma(low, mixes.index(pair).permute((1, 0)), error, is_async=True)
            if not DELTA:
                error = warpgroup_mma(low, mixes.index(MIXES_REST + pair).permute((1, 0)), error, is_async=True)
            error = warpgroup_mma_wait(0, [error])
            r = -error
            if CLIPPED:
                # where it was clipped is read from it later: rounding must move no number over the bound
                clipped = gl.abs(r) > clip
                if BETWEEN:
                    r = bounded(r, clip_inside)
                r = bounded_by_twos(gl.where(clipped, r * BEYOND, r).to(dtype), clip_outside)
            r = r.to(dtype)
            if SECOND:
                mbarrier.wait(barriers.index(R_FREE), (j - 1) & 1, pred=j >= 1)
            if KEEP or not SECOND:
                # alone, what was sent last is o
                tma.store_wait(0 if SECOND else 1)
            values.index(VALUES_R).permute((1, 0)).store(r)
            fence_async_shared()
            if SECOND:
                mbarrier.arrive(barriers.index(R_READY), count=1)
            if KEEP or not SECOND:
                store_async(r_tiles, [token, v_at], values.index(VALUES_R))
        # not before, and waited for at once: its operands and what follows do not fit beside each other
        if DELTA:
            U, S = warpgroup_mma_wait(0, [U, S])
        else:
            written, S = warpgroup_mma_wait(0, [written, S])
        S_low = gl.convert_layout(S.to(dtype), LEFT_OF_STATE)
        o = warpgroup_mma(S_low, keys.index(slot).permute((1, 0)), zeros, use_acc=False, is_async=True)
        o = warpgroup_mma_wait(0, [o])
        if DELTA:
            U_low = as_left(U, dtype)
        else:
            U = written
            U_low = low
        o *= gate(gates, slot, READ_S, BY_COLUMN)[None, :]
        mbarrier.wait(barriers.index(MIX_S_READY), j & 1)
        o = warpgroup_mma(U_low, mixes.index(MIXES_S).permute((1, 0)), o, is_async=True)
        get = U * gate(gates, slot, GET, BY_COLUMN)[None, :]
        get_left = gl.convert_layout(get.to(dtype), LEFT_OF_STATE)
        if FIT:
            # what rounding takes of writes adds up where keys are much alike
            get_rest = gl.convert_layout(rest(get, get.to(dtype)), LEFT_OF_STATE)
        S *= gate(gates, slot, DECAY, gl.SliceLayout(1, STATE))[:, None]
        o = warpgroup_mma_wait(0, [o])
        S = warpgroup_mma(get_left, k_tile, S, is_async=True)
        if FIT:
            S = warpgroup_mma(get_rest, k_tile, S, is_async=True)
        mbarrier.arrive(barriers.index(MIX_S_FREE), count=1)
        if SECOND:
            mbarrier.wait(barriers.index(O_FREE), (j - 1) & 1, pred=j >= 1)
        else:
            # what was sent last is r, where there is one
            tma.store_wait(1 if FIT else 0)
        values.index(VALUES_O).permute((1, 0)).store(o.to(dtype))
        if SECOND:
            mbarrier.arrive(barriers.index(O_READY), count=1)
        else:
            fence_async_shared()
            store_async(o_tiles, [token, v_at], values.index(VALUES_O))
        S = warpgroup_mma_wait(0, [S])
        mbarrier.arrive(barriers.index(DONE + slot), count=1)
        if not SECOND:
            ask_for_next(j, tiles, sizes, shared, DELTA, RESIDUAL, True, SECOND)
    store_state(final, S, V)
    tma.store_wait(0)


@gluon.jit
def carry_residual(
    initial,
    tiles,
    shared,
    stored,
    sizes,
    clip_inside,
    V: gl.constexpr,
    DELTA: gl.constexpr,
    FIRST: gl.constexpr,
    FIT: gl.constexpr,
    CLIPPED: gl.constexpr,
    SUM: gl.constexpr,
    HAS_INITIAL: gl.constexpr,
    KEEP: gl.constexpr,
):
    keys, systems, mixes, values, gates, barriers = shared
    o_tiles, checkpoints, final = stored
    start, chunks, v_at, H, k_at, at = sizes
    dtype: gl.constexpr = keys.dtype
    zeros = gl.zeros([BV, C], gl.float32, SQUARE)
    ask_for_first(tiles, sizes, shared, DELTA, True, FIRST, True)
    R = load_state(initial, V, HAS_INITIAL)
    for j in range(chunks):
        slot = j % SLOTS
        pair = j % 2
        k_tile = keys.index(KEYS_AT + slot)
        if KEEP:
            if j % BATCH == 0:
                store_state(checkpoints + (j // BATCH * H).to(gl.int64) * (K * V), R, V)
        mbarrier.wait(barriers.index(KEYS_READY + slot), (j // SLOTS) & 1)
        R_low = gl.convert_layout(R.to(dtype), LEFT_OF_STATE)
        if DELTA:
            at_k = warpgroup_mma(R_low, k_tile.permute((1, 0)), zeros, use_acc=False, is_async=True)
        mbarrier.wait(barriers.index(LATE_READY + pair), (j // 2) & 1)
        mbarrier.wait(barriers.index(GATES_READY + pair), (j // 2) & 1)
        # before what follows is loaded: it would take registers beside the operands
        if DELTA:
            at_k, R = warpgroup_mma_wait(0, [at_k, R])
        if FIT and FIRST:
            mbarrier.wait(barriers.index(R_READY), j & 1)
            r = values.index(VALUES_R).permute((1, 0)).load(SQUARE)
            mbarrier.arrive(barriers.index(R_FREE), count=1)
        else:
            r = values.index(pair).permute((1, 0)).load(SQUARE)
        if CLIPPED:
            r = bounded_by_twos(r, clip_inside)
        written = r.to(gl.float32)
        if DELTA:
            written -= gate(gates, slot, HOLD, BY_COLUMN)[None, :] * at_k
        written *= gate(gates, slot, GAMMA, BY_COLUMN)[None, :]
        # what follows does not fit beside the operands before: o is waited for at once, and not begun before this
        written, R = warpgroup_mma_wait(0, [written, R])
        low = as_left(written, dtype)
        R_low = gl.convert_layout(R.to(dtype), LEFT_OF_STATE)
        o = warpgroup_mma(R_low, keys.index(slot).permute((1, 0)), zeros, use_acc=False, is_async=True)
        o = warpgroup_mma_wait(0, [o])
        if DELTA:
            W = warpgroup_mma(low, systems.index(SYSTEMS_Y + pair).permute((1, 0)), zeros, use_acc=False, is_async=True)
            W = warpgroup_mma_wait(0, [W])
            W_low = as_left(W, dtype)
        else:
            W = written
            W_low = low
        o *= gate(gates, slot, READ_R, BY_COLUMN)[None, :]
        mbarrier.wait(barriers.index(MIX_R_READY + pair), (j // 2) & 1)
        o = warpgroup_mma(W_low, mixes.index(MIXES_R + pair).permute((1, 0)), o, is_async=True)
        get = W * gate(gates, slot, GET, BY_COLUMN)[None, :]
        get_left = gl.convert_layout(get.to(dtype), LEFT_OF_STATE)
        R *= gate(gates, slot, DECAY, gl.SliceLayout(1, STATE))[:, None]
        o = warpgroup_mma_wait(0, [o])
        R = warpgroup_mma(get_left, k_tile, R, is_async=True)
        if not SUM:
            o *= gate(gates, slot, GAMMA, BY_COLUMN)[None, :]
        if FIRST:
            mbarrier.wait(barriers.index(O_READY), j & 1)
            of_S = values.index(VALUES_O)
        else:
            of_S = values.index(VALUES_O_ALONE + pair)
        o += of_S.permute((1, 0)).load(SQUARE).to(gl.float32)
        of_S.permute((1, 0)).store(o.to(dtype))
        fence_async_shared()
        store_async(o_tiles, [start + j * C, v_at], of_S)
        R = warpgroup_mma_wait(0, [R])
        mbarrier.arrive(barriers.index(DONE + slot), count=1)
        tma.store_wait(0)
        if FIRST:
            mbarrier.arrive(barriers.index(O_FREE), count=1)
        ask_for_next(j, tiles, sizes, shared, DELTA, True, FIRST, True)
    store_state(final, R, V)
