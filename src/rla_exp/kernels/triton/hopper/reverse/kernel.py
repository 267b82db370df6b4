"""The reverse pass of both states in one kernel: shared memory, barriers, and which warps do what."""

import triton.experimental.gluon.language as gl
from triton.experimental import gluon
from triton.experimental.gluon.language.nvidia.hopper import fence_async_shared, mbarrier

from rla_exp.kernels.triton.hopper.layout import BV, PART, PARTS, C, K
from rla_exp.kernels.triton.hopper.reverse.layout import BARRIERS, DONE, REST_READY
from rla_exp.kernels.triton.hopper.reverse.loads import ask_for_tiles
from rla_exp.kernels.triton.hopper.reverse.scores import make_scores
from rla_exp.kernels.triton.hopper.reverse.states import carry_gradient


# one binary for all lengths: what the self-check compiled is what runs
@gluon.jit(do_not_specialize=["T", "J0", "LS", "H"])
def fused_reverse_kernel(
    q_tiles,
    k_tiles,
    do_tiles,
    r_tiles,
    inverse_tiles,
    after_S_tiles,
    after_R_tiles,
    solved_S_tiles,
    solved_R_tiles,
    dv_tiles,
    rows,
    d_S,
    d_R,
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
    """d_S and d_R [N, H, K, V] float32 hold the gradients of the states after the chunks [J0, J0 + LS) of each
    sequence, and then those before. Of each chunk it leaves the gradients of the states after it (after [chunks, H, K,
    V]), the solutions of the transposed systems (solved [chunks, H, C, V]), and v's gradient.
    """
    v0 = gl.program_id(0) * BV
    n = gl.program_id(1) // H
    h = gl.program_id(1) % H
    dtype: gl.constexpr = dv_tiles.dtype
    TILE: gl.constexpr = gl.NVMMASharedLayout(128, 16)
    ROW: gl.constexpr = gl.SwizzledSharedLayout(1, 1, 1, [0])
    # chunks whose k and gates, and whose other tiles, are in shared memory at a time
    SLOTS: gl.constexpr = 2 if RESIDUAL else 3
    TURNS: gl.constexpr = 2 if DELTA and RESIDUAL else 3
    SYSTEMS: gl.constexpr = (2 if RESIDUAL else 1) if DELTA else 0
    STATES: gl.constexpr = 2 if RESIDUAL else 1

    keys = gl.allocate_shared_memory(dtype, [SLOTS + TURNS, C, K], TILE)
    SQUARES: gl.constexpr = (2 if CLIPPED else 1) + SYSTEMS
    rest = gl.allocate_shared_memory(dtype, [SQUARES * TURNS, C, BV], TILE)
    scores = gl.allocate_shared_memory(dtype, [3 if FIT else STATES, C, C], TILE)
    leaving = gl.allocate_shared_memory(dtype, [1 + STATES, C, BV], TILE)
    after = gl.allocate_shared_memory(dtype, [STATES, K, BV], TILE)
    gates = gl.allocate_shared_memory(gl.float32, [SLOTS * PARTS, PART], ROW)
    barriers = gl.allocate_shared_memory(gl.int64, [BARRIERS, 1], mbarrier.MBarrierLayout())
    for i in gl.static_range(BARRIERS):
        # a chunk is done when S and R are
        mbarrier.init(barriers.index(i), count=STATES if i >= DONE and i < REST_READY else 1)
    fence_async_shared()

    tiles = (q_tiles, k_tiles, do_tiles, r_tiles, inverse_tiles)
    shared = (keys, rest, scores, leaving, after, gates, barriers)
    # of the last chunk
    at = (n * LS + LS - 1) * H + h
    inverse_at = (n * (T // C) + J0 + LS - 1) * H + h
    sizes = (n * T + (J0 + LS - 1) * C, LS, h * K, v0, h * V + v0, H, at, inverse_at)
    sizes_of_scores = (LS, at, H, scale)
    state_at = (n * H + h).to(gl.int64) * (K * V) + v0
    d_S += state_at
    stored_S = (after_S_tiles, solved_S_tiles, dv_tiles)
    # compile-time arguments stay such only where they stand here
    if RESIDUAL:
        d_R += state_at
        stored_R = (after_R_tiles, solved_R_tiles, dv_tiles)
        gl.warp_specialize(
            [
                (
                    carry_gradient,
                    (
                        d_R,
                        stored_R,
                        shared,
                        sizes,
                        bound,
                        V,
                        DELTA,
                        RESIDUAL,
                        FIT,
                        CLIPPED,
                        SUM,
                        SLOTS,
                        TURNS,
                        True,
                    ),
                ),
                (
                    make_scores,
                    (rows, shared, sizes_of_scores, RESIDUAL, FIT, SUM, DECAYED, NORMALIZE, SLOTS, TURNS),
                ),
                (
                    carry_gradient,
                    (
                        d_S,
                        stored_S,
                        shared,
                        sizes,
                        bound,
                        V,
                        DELTA,
                        RESIDUAL,
                        FIT,
                        CLIPPED,
                        SUM,
                        SLOTS,
                        TURNS,
                        False,
                    ),
                ),
                (ask_for_tiles, (tiles, sizes, shared, DELTA, RESIDUAL, CLIPPED, SLOTS, TURNS)),
            ],
            [4, 4, 1],
            [128, 192, 24],
        )
    else:
        gl.warp_specialize(
            [
                (
                    carry_gradient,
                    (
                        d_S,
                        stored_S,
                        shared,
                        sizes,
                        bound,
                        V,
                        DELTA,
                        RESIDUAL,
                        FIT,
                        CLIPPED,
                        SUM,
                        SLOTS,
                        TURNS,
                        False,
                    ),
                ),
                (
                    make_scores,
                    (rows, shared, sizes_of_scores, RESIDUAL, FIT, SUM, DECAYED, NORMALIZE, SLOTS, TURNS),
                ),
                (ask_for_tiles, (tiles, sizes, shared, DELTA, RESIDUAL, CLIPPED, SLOTS, TURNS)),
            ],
            [4, 1],
            [152, 24],
        )
