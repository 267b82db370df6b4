"""The kernel of the gradients of q, k and the gates: shared memory, barriers, and which warps do what."""

import triton.experimental.gluon.language as gl
from triton.experimental import gluon
from triton.experimental.gluon.language.nvidia.hopper import fence_async_shared, mbarrier

from rla_exp.kernels.triton.hopper.layout import C
from rla_exp.kernels.triton.hopper.parts import take_state
from rla_exp.kernels.triton.hopper.slots import BARRIERS, STATE_BARRIERS, TILES_ALONE, TILES_BOTH, synchronize


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
    TILE: gl.constexpr = gl.NVMMASharedLayout(128, 16)
    TILES: gl.constexpr = TILES_BOTH if RESIDUAL else TILES_ALONE
    tiles = gl.allocate_shared_memory(q_tiles.dtype, [TILES, 64, 64], TILE)
    log_a = gl.allocate_shared_memory(gl.float32, [1, C], gl.SwizzledSharedLayout(1, 1, 1, [0]))
    both = gl.allocate_shared_memory(gl.int64, [BARRIERS, 1], mbarrier.MBarrierLayout())
    of_S = gl.allocate_shared_memory(gl.int64, [STATE_BARRIERS, 1], mbarrier.MBarrierLayout())
    of_R = gl.allocate_shared_memory(gl.int64, [STATE_BARRIERS, 1], mbarrier.MBarrierLayout())
    for i in gl.static_range(BARRIERS):
        mbarrier.init(both.index(i), count=1)
    for i in gl.static_range(STATE_BARRIERS):
        mbarrier.init(of_S.index(i), count=1)
        mbarrier.init(of_R.index(i), count=1)
    fence_async_shared()
    synchronize()
    key_tiles = (q_tiles, k_tiles, do_tiles)
    sizes = (T, J0, LS, H)
    tiles_S = (v_tiles, solved_S_tiles, reads_S_tiles, inverse_tiles, before_S_tiles, after_S_tiles)
    outputs_S = (dq_tiles, dk_tiles, dg, dbeta)
    shared_S = (tiles, both, of_S, log_a)
    # compile-time arguments stay such only where they stand here
    if RESIDUAL:
        fed_tiles = r_tiles if FIT else v_tiles
        tiles_R = (fed_tiles, solved_R_tiles, reads_R_tiles, inverse_tiles, before_R_tiles, after_R_tiles)
        outputs_R = (dq_tiles, dk_tiles, dg, dgamma)
        shared_R = (tiles, both, of_R, log_a)
        gl.warp_specialize(
            [
                (
                    take_state,
                    (
                        rows, key_tiles, tiles_S, outputs_S, shared_S, sizes, total, scale, bound,
                        V, DELTA, RESIDUAL, FIT, CLIPPED, SUM, DECAYED, NORMALIZE, False,
                    ),
                ),
                (
                    take_state,
                    (
                        rows, key_tiles, tiles_R, outputs_R, shared_R, sizes, total, scale, bound,
                        V, DELTA, RESIDUAL, FIT, CLIPPED, SUM, DECAYED, NORMALIZE, True,
                    ),
                ),
            ],
            [4],
            [240],
        )  # fmt: skip
    else:
        take_state(
            rows, key_tiles, tiles_S, outputs_S, shared_S, sizes, total, scale, bound,
            V, DELTA, RESIDUAL, FIT, CLIPPED, SUM, DECAYED, NORMALIZE, False,
        )  # fmt: skip
