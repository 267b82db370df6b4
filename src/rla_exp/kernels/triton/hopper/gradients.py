"""The kernel of the gradients of q, k and the gates: shared memory, barriers, and which warps do what."""

import triton.experimental.gluon.language as gl
from triton.experimental import gluon
from triton.experimental.gluon.language.nvidia.hopper import fence_async_shared, mbarrier

from rla_exp.kernels.triton.hopper.layout import C
from rla_exp.kernels.triton.hopper.slots import BARRIERS, STATE_BARRIERS, synchronize
from rla_exp.kernels.triton.hopper.through import take_state


@gluon.jit
def slots_of_state(dtype: gl.constexpr, BLOCKS: gl.constexpr, DELTA: gl.constexpr, RESIDUAL: gl.constexpr):
    """Values, lam, what the state holds at k, state, its gradient, matrices and barriers of one state."""
    TILE: gl.constexpr = gl.NVMMASharedLayout(128, 16)
    # in place of values and lam dq and dk [C, 128] are left at last, however few columns V has
    values = gl.allocate_shared_memory(dtype, [2, C, 64], TILE)
    solved = gl.allocate_shared_memory(dtype, [2, C, 64], TILE)
    STATES: gl.constexpr = BLOCKS if RESIDUAL else 2 * BLOCKS
    before = gl.allocate_shared_memory(dtype, [STATES, 64, 64], TILE)
    after = gl.allocate_shared_memory(dtype, [STATES, 64, 64], TILE)
    if DELTA and not RESIDUAL:
        reads = gl.allocate_shared_memory(dtype, [BLOCKS, C, 64], TILE)
    else:
        reads = after
    matrices = gl.allocate_shared_memory(dtype, [2, C, C], TILE)
    barriers = gl.allocate_shared_memory(gl.int64, [STATE_BARRIERS, 1], mbarrier.MBarrierLayout())
    for i in gl.static_range(STATE_BARRIERS):
        mbarrier.init(barriers.index(i), count=1)
    return values, solved, reads, before, after, matrices, barriers


# one binary for all lengths: what the self-check compiled is what runs
@gluon.jit(do_not_specialize=["total", "T", "J0", "LS", "H"])
def fused_gradients_kernel(
    q_tiles,
    k_tiles,
    do_tiles,
    v_tiles,
    r_tiles,
    inverse_tiles,
    solved_S_tiles,
    solved_R_tiles,
    reads_S_tiles,
    reads_R_tiles,
    before_S_tiles,
    before_R_tiles,
    after_S_tiles,
    after_R_tiles,
    dq_tiles,
    dk_tiles,
    rows,
    dg,
    dbeta,
    dgamma,
    total,
    T,
    J0,
    LS,
    H,
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
):
    """A program takes the chunks and heads of a slice, `total` in all, as many apart as there are programs."""
    dtype: gl.constexpr = q_tiles.dtype
    BLOCKS: gl.constexpr = V // 64
    TILE: gl.constexpr = gl.NVMMASharedLayout(128, 16)
    keys = gl.allocate_shared_memory(dtype, [4, C, 64], TILE)
    do = gl.allocate_shared_memory(dtype, [BLOCKS, C, 64], TILE)
    if FIT:
        back = gl.allocate_shared_memory(dtype, [BLOCKS, C, 64], TILE)
    else:
        back = do  # for nothing
    log_a = gl.allocate_shared_memory(gl.float32, [1, C], gl.SwizzledSharedLayout(1, 1, 1, [0]))
    both = gl.allocate_shared_memory(gl.int64, [BARRIERS, 1], mbarrier.MBarrierLayout())
    for i in gl.static_range(BARRIERS):
        mbarrier.init(both.index(i), count=1)
    shared_S = slots_of_state(dtype, BLOCKS, DELTA, RESIDUAL)
    key_tiles = (q_tiles, k_tiles, do_tiles)
    common = (keys, do, back, log_a, both)
    sizes = (T, J0, LS, H)
    tiles_S = (v_tiles, solved_S_tiles, reads_S_tiles, inverse_tiles, before_S_tiles, after_S_tiles)
    outputs_S = (dq_tiles, dk_tiles, dg, dbeta)
    # compile-time arguments stay such only where they stand here
    if RESIDUAL:
        shared_R = slots_of_state(dtype, BLOCKS, DELTA, RESIDUAL)
        # R leaves its dq and dk in the places of its values and lam
        shares = (shared_R[0], shared_R[1])
        tiles_R = (
            r_tiles if FIT else v_tiles, solved_R_tiles, reads_R_tiles, inverse_tiles, before_R_tiles, after_R_tiles
        )  # fmt: skip
        outputs_R = (dq_tiles, dk_tiles, dg, dgamma)
        fence_async_shared()
        gl.warp_specialize(
            [
                (
                    take_state,
                    (
                        rows, key_tiles, tiles_S, outputs_S, common, shared_S, shares, sizes, total, scale, bound,
                        V, DELTA, RESIDUAL, FIT, CLIPPED, SUM, DECAYED, NORMALIZE, False,
                    ),
                ),
                (
                    take_state,
                    (
                        rows, key_tiles, tiles_R, outputs_R, common, shared_R, shares, sizes, total, scale, bound,
                        V, DELTA, RESIDUAL, FIT, CLIPPED, SUM, DECAYED, NORMALIZE, True,
                    ),
                ),
            ],
            [4],
            [240],
        )  # fmt: skip
    else:
        fence_async_shared()
        synchronize()
        shares = (keys, keys)  # for nothing
        take_state(
            rows, key_tiles, tiles_S, outputs_S, common, shared_S, shares, sizes, total, scale, bound,
            V, DELTA, RESIDUAL, FIT, CLIPPED, SUM, DECAYED, NORMALIZE, False,
        )  # fmt: skip
