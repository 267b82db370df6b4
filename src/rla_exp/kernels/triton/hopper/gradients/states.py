"""The warps that carry the state again from a checkpoint, a chunk ahead of the gradients: nothing of it is stored.

Transposed, as in the forward pass, by quarters [64, 64]: columns of V, then rows of K.
"""

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
from rla_exp.kernels.triton.hopper.gates import load_gates
from rla_exp.kernels.triton.hopper.gradients.slots import (
    AFTER,
    AFTER_READY,
    BACK,
    BEFORE,
    FREE,
    GATES_FREE,
    HALVES,
    KEYS,
    MADE,
    OF_STATES,
    OF_VALUES,
    REPLAY_READY,
    SLOTS,
    SOLVED,
    SOLVED_READY,
    SUMS_MADE,
    VALUES,
    WRITTEN,
    ask_for_replay,
    synchronize,
    unknown_zero,
    whole,
)
from rla_exp.kernels.triton.hopper.gradients.units import moved, unit_at
from rla_exp.kernels.triton.hopper.layout import (
    BETA,
    BY_COLUMN,
    BY_ROW,
    DECAY,
    GAMMA,
    GET,
    HOLD,
    PARTS,
    SQUARE,
    C,
    K,
    as_left,
    bounded,
    gate,
    here,
)


@gluon.jit
def load_quarter(checkpoint, block: gl.constexpr, half: gl.constexpr, V: gl.constexpr):
    v = here(gl.arange(0, 64, BY_ROW))
    k = here(gl.arange(0, 64, BY_COLUMN))
    return gl.load(checkpoint + (half * 64 * V + block * 64) + v[:, None] + k[None, :] * V)


@gluon.jit
def from_checkpoint(unit, sizes):
    """As unit_at, but the spot is that of the chunk after the checkpoint."""
    spot, chunks, before, checkpoint = unit_at(unit, sizes)
    return moved(spot, -before, sizes[3]), chunks, before, checkpoint


@gluon.jit
def write(
    S_0, S_1, block: gl.constexpr, slot, shared, bound, DELTA: gl.constexpr, CLIPPED: gl.constexpr,
    SECOND: gl.constexpr,
):  # fmt: skip
    """What the columns of a block are written with, transposed."""
    tiles, system, barriers, gates, sums = shared
    dtype: gl.constexpr = tiles.dtype
    zero = unknown_zero()
    zeros = gl.zeros([64, C], gl.float32, SQUARE)
    if DELTA:
        k_tile = tiles.index(zero + (KEYS + slot * HALVES)).permute((1, 0))
        k_tile_1 = tiles.index(zero + (KEYS + 1 + slot * HALVES)).permute((1, 0))
        # one after the other: the operands of both do not fit beside the states
        held = warpgroup_mma(as_left(S_0, dtype), k_tile, zeros, use_acc=False, is_async=True)
        held, S_1 = warpgroup_mma_wait(0, [held, S_1])
        held = warpgroup_mma(as_left(S_1, dtype), k_tile_1, held, is_async=True)
        held = warpgroup_mma_wait(0, [held])
    written = tiles.index(zero + (VALUES + block)).permute((1, 0)).load(SQUARE).to(gl.float32)
    if SECOND and CLIPPED:
        written = bounded(written, bound)
    if DELTA:
        written -= gate(gates, slot, HOLD, BY_COLUMN)[None, :] * held
    written *= gate(gates, slot, GAMMA if SECOND else BETA, BY_COLUMN)[None, :]
    if DELTA:
        low = as_left(written, dtype)
        written = warpgroup_mma(low, system.index(0).permute((1, 0)), zeros, use_acc=False, is_async=True)
        written = warpgroup_mma_wait(0, [written])
    return written.to(dtype)


@gluon.jit
def leave_block(S_0, S_1, written, block: gl.constexpr, tiles):
    """The state before the chunk, and what it is written with, for the gradients' products."""
    zero = unknown_zero()
    tiles.index(zero + (BEFORE + block)).permute((1, 0)).store(S_0.to(tiles.dtype))
    tiles.index(zero + (BEFORE + 2 + block)).permute((1, 0)).store(S_1.to(tiles.dtype))
    tiles.index(zero + (WRITTEN + block)).permute((1, 0)).store(written)


@gluon.jit
def carry_block(S_0, S_1, written, slot, shared):
    """Over the chunk."""
    tiles, system, barriers, gates, sums = shared
    zero = unknown_zero()
    get = written.to(gl.float32) * gate(gates, slot, GET, BY_COLUMN)[None, :]
    get = as_left(get, tiles.dtype)
    kept = gate(gates, slot, DECAY, BY_ROW)
    S_0 *= kept[:, None]
    S_1 *= kept[:, None]
    S_0 = warpgroup_mma(get, tiles.index(zero + (KEYS + slot * HALVES)), S_0, is_async=True)
    S_1 = warpgroup_mma(get, tiles.index(zero + (KEYS + 1 + slot * HALVES)), S_1, is_async=True)
    return warpgroup_mma_wait(0, [S_0, S_1])


@gluon.jit
def sum_with_values(
    spot, slot, back_tiles, shared, bound, BLOCKS: gl.constexpr, CLIPPED: gl.constexpr,
    SECOND: gl.constexpr,
):  # fmt: skip
    """Leaves the sums [C] over V of lam times what the state was fed; of R, what goes back to the prediction."""
    tiles, system, barriers, gates, sums = shared
    LEAVES: gl.constexpr = SECOND and back_tiles is not None
    zero = unknown_zero()
    total = gl.zeros([C], gl.float32, BY_ROW)
    if LEAVES:
        # the one before is sent
        tma.store_wait(0)
        synchronize()
    for n in gl.static_range(BLOCKS):
        value = tiles.index(zero + (VALUES + n)).load(SQUARE).to(gl.float32)
        lam = tiles.index(zero + (SOLVED + n)).load(SQUARE).to(gl.float32)
        if LEAVES:
            # R was fed v, or r = clip(v - P), which the clip lets through or not
            back = -gate(gates, slot, GAMMA, BY_ROW)[:, None] * lam
            if CLIPPED:
                back = gl.where(gl.abs(value) > bound, 0.0, back)
            tiles.index(zero + (BACK + n)).store(back.to(tiles.dtype))
        if SECOND and CLIPPED:
            value = bounded(value, bound)
        total += gl.sum(lam * value, 1)
    sums.index(OF_VALUES + slot).store(total)
    if LEAVES:
        fence_async_shared()
        synchronize()
        store_async(back_tiles, [spot[0] * C, 0], whole(tiles, BACK, BLOCKS))


@gluon.jit
def sum_with_gradient(slot, shared, BLOCKS: gl.constexpr):
    """Leaves the sums by rows of the state before the chunk times the gradient after it, of both halves."""
    tiles, system, barriers, gates, sums = shared
    zero = unknown_zero()
    total = gl.zeros([64], gl.float32, BY_ROW)
    for half in gl.static_range(HALVES):
        for n in gl.static_range(BLOCKS):
            S = tiles.index(zero + (BEFORE + 2 * half + n)).load(SQUARE).to(gl.float32)
            total += gl.sum(S * tiles.index(zero + (AFTER + 2 * half + n)).load(SQUARE).to(gl.float32), 1)
    sums.index(OF_STATES + slot).store(total)


@gluon.jit
def carry_state(
    checkpoints,
    rows,
    descriptors,
    back_tiles,
    shared,
    sizes,
    total,
    bound,
    V: gl.constexpr,
    DELTA: gl.constexpr,
    RESIDUAL: gl.constexpr,
    CLIPPED: gl.constexpr,
    SECOND: gl.constexpr,
):
    """Unit by unit, from the checkpoint before it on. What is left of a chunk is there until the next is made."""
    tiles, system, barriers, gates, sums = shared
    BLOCKS: gl.constexpr = V // 64
    H = sizes[3]
    unit = gl.program_id(0)
    spot, chunks, before, checkpoint = from_checkpoint(unit, sizes)
    ask_for_replay(spot, 0, descriptors, shared, BLOCKS, DELTA, RESIDUAL, SECOND)
    of_chunk = load_gates(rows, spot[0])
    # loads waited for, and chunks left for the gradients
    loads = 0
    turn = 0
    while unit < total:
        from_here = checkpoints + checkpoint.to(gl.int64) * (K * V)
        S_00 = load_quarter(from_here, 0, 0, V)
        S_01 = load_quarter(from_here, 0, 1, V)
        if BLOCKS == 2:
            S_10 = load_quarter(from_here, 1, 0, V)
            S_11 = load_quarter(from_here, 1, 1, V)
        steps = before + chunks
        count = chunks
        for step in range(steps):
            slot = turn % SLOTS
            # the gradients are done with those of the chunk before the last
            mbarrier.wait(barriers.index(GATES_FREE + slot), (turn // SLOTS - 1) & 1, pred=turn >= SLOTS)
            for n in gl.static_range(PARTS):
                gates.index(slot * PARTS + n).store(of_chunk[n])
            later = moved(spot, 1, H)
            if step + 1 == steps:
                unit += gl.num_programs(0)
                later, chunks, before, checkpoint = from_checkpoint(unit, sizes)
            is_more = unit < total
            # a chunk ahead: nothing hides the time that these take
            of_chunk = load_gates(rows, gl.where(is_more, later[0], spot[0]))
            mbarrier.wait(barriers.index(REPLAY_READY), loads & 1)
            loads += 1
            is_left = step >= steps - count
            written = write(S_00, S_01, 0, slot, shared, bound, DELTA, CLIPPED, SECOND)
            if is_left:
                mbarrier.wait(barriers.index(FREE), (turn - 1) & 1, pred=turn >= 1)
                leave_block(S_00, S_01, written, 0, tiles)
            S_00, S_01 = carry_block(S_00, S_01, written, slot, shared)
            if BLOCKS == 2:
                written = write(S_10, S_11, 1, slot, shared, bound, DELTA, CLIPPED, SECOND)
                if is_left:
                    leave_block(S_10, S_11, written, 1, tiles)
            if is_left:
                fence_async_shared()
                mbarrier.arrive(barriers.index(MADE), count=1)
            if BLOCKS == 2:
                S_10, S_11 = carry_block(S_10, S_11, written, slot, shared)
            if is_left:
                mbarrier.wait(barriers.index(SOLVED_READY), turn & 1)
                sum_with_values(spot, slot, back_tiles, shared, bound, BLOCKS, CLIPPED, SECOND)
                mbarrier.wait(barriers.index(AFTER_READY), turn & 1)
                sum_with_gradient(slot, shared, BLOCKS)
                mbarrier.arrive(barriers.index(SUMS_MADE), count=1)
                turn += 1
            synchronize()
            if is_more:
                # into a place for k that the gradients are done with: they are where the chunk before this one is free
                ask_for_replay(later, turn, descriptors, shared, BLOCKS, DELTA, RESIDUAL, SECOND)
            spot = later
    tma.store_wait(0)
