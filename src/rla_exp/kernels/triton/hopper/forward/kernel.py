"""The kernel: shared memory, barriers, and which warps do what."""

import triton.experimental.gluon.language as gl
from triton.experimental import gluon
from triton.experimental.gluon.language.nvidia.hopper import fence_async_shared, mbarrier

from rla_exp.kernels.triton.hopper.forward.layout import BARRIERS, BATCH, DONE, LATE_READY, SLOTS
from rla_exp.kernels.triton.hopper.forward.mixes import make_mixes
from rla_exp.kernels.triton.hopper.forward.states import carry_residual, carry_state
from rla_exp.kernels.triton.hopper.layout import BV, PART, PARTS, C, K


# one binary for all lengths: what the self-check compiled is what runs
@gluon.jit(do_not_specialize=["T", "P", "LP", "H"])
def fused_forward_kernel(
    q_tiles,
    k_tiles,
    v_tiles,
    inverse_tiles,
    inverse_rest_tiles,
    r_tiles,
    o_tiles,
    rows,
    initial_S,
    initial_R,
    final_S,
    final_R,
    checkpoints_S,
    checkpoints_R,
    T,
    P,
    LP,
    H,
    scale,
    clip,
    clip_inside,
    clip_outside,
    V: gl.constexpr,
    DELTA: gl.constexpr,
    RESIDUAL: gl.constexpr,
    FIRST: gl.constexpr,
    SECOND: gl.constexpr,
    FIT: gl.constexpr,
    CLIPPED: gl.constexpr,
    BETWEEN: gl.constexpr,
    SUM: gl.constexpr,
    DECAYED: gl.constexpr,
    NORMALIZE: gl.constexpr,
    HAS_S: gl.constexpr,
    HAS_R: gl.constexpr,
    KEEP: gl.constexpr,
    REST: gl.constexpr,
):
    """S (FIRST) and R (SECOND) over a chain of chunks: a sequence, or one of its P segments of LP chunks.

    initial and final are [chains, H, K, V]. R alone: v_tiles are those of r (of v), and o holds that of S.
    """
    v0 = gl.program_id(0) * BV
    chain = gl.program_id(1) // H
    h = gl.program_id(1) % H
    n = chain // P
    skipped = chain % P * LP
    chunks = gl.minimum(LP, T // C - skipped)
    start = n * T + skipped * C
    first = n * (T // C) + skipped
    v_at = h * V + v0
    state_at = gl.program_id(1).to(gl.int64) * (K * V) + v0
    checkpoint_at = ((first // BATCH + n) * H + h).to(gl.int64) * (K * V) + v0
    dtype: gl.constexpr = v_tiles.dtype
    TILE: gl.constexpr = gl.NVMMASharedLayout(128, 16)
    ROW: gl.constexpr = gl.SwizzledSharedLayout(1, 1, 1, [0])

    keys = gl.allocate_shared_memory(dtype, [2 * SLOTS, C, K], TILE)
    values = gl.allocate_shared_memory(dtype, [4, C, BV], TILE)
    MIXES: gl.constexpr = 7 if FIT and not DELTA else 5 if RESIDUAL else 3
    mixes = gl.allocate_shared_memory(dtype, [MIXES, C, C], TILE)
    SYSTEMS: gl.constexpr = 6 if REST else 5 if RESIDUAL else 3
    if DELTA:
        systems = gl.allocate_shared_memory(dtype, [SYSTEMS, C, C], TILE)
    else:
        systems = mixes  # for nothing
    gates = gl.allocate_shared_memory(gl.float32, [SLOTS * PARTS, PART], ROW)
    barriers = gl.allocate_shared_memory(gl.int64, [BARRIERS, 1], mbarrier.MBarrierLayout())
    for i in gl.static_range(BARRIERS):
        # a chunk is done when S and R are
        mbarrier.init(barriers.index(i), count=2 if FIRST and SECOND and i >= DONE and i < LATE_READY else 1)
    fence_async_shared()

    tiles = (q_tiles, k_tiles, v_tiles, inverse_tiles, o_tiles)
    shared = (keys, systems, mixes, values, gates, barriers)
    sizes = (start, chunks, v_at, H, h * K, first * H + h)
    clips = (clip, clip_inside, clip_outside)
    sizes_of_mixes = (chunks, first * H + h, H, scale)
    if FIRST:
        if HAS_S:
            initial_S += state_at
        if KEEP:
            checkpoints_S += checkpoint_at
        stored_S = (r_tiles, o_tiles, checkpoints_S, final_S + state_at)
    if SECOND:
        if HAS_R:
            initial_R += state_at
        if KEEP:
            checkpoints_R += checkpoint_at
        stored_R = (o_tiles, checkpoints_R, final_R + state_at)
    # compile-time arguments stay such only where they stand here
    if FIRST and SECOND:
        gl.warp_specialize(
            [
                (
                    carry_residual,
                    (
                        initial_R,
                        tiles,
                        shared,
                        stored_R,
                        sizes,
                        clip_inside,
                        V,
                        DELTA,
                        FIRST,
                        FIT,
                        CLIPPED,
                        SUM,
                        HAS_R,
                        KEEP,
                    ),
                ),
                (
                    make_mixes,
                    (
                        inverse_rest_tiles,
                        rows,
                        shared,
                        sizes_of_mixes,
                        DELTA,
                        RESIDUAL,
                        FIRST,
                        SECOND,
                        FIT,
                        SUM,
                        DECAYED,
                        NORMALIZE,
                        REST,
                    ),
                ),
                (
                    carry_state,
                    (
                        initial_S,
                        tiles,
                        shared,
                        stored_S,
                        sizes,
                        clips,
                        V,
                        DELTA,
                        RESIDUAL,
                        SECOND,
                        FIT,
                        CLIPPED,
                        BETWEEN,
                        HAS_S,
                        KEEP,
                    ),
                ),
            ],
            [4, 4],
            [112, 208],
        )
    elif FIRST:
        gl.warp_specialize(
            [
                (
                    carry_state,
                    (
                        initial_S,
                        tiles,
                        shared,
                        stored_S,
                        sizes,
                        clips,
                        V,
                        DELTA,
                        RESIDUAL,
                        SECOND,
                        FIT,
                        CLIPPED,
                        BETWEEN,
                        HAS_S,
                        KEEP,
                    ),
                ),
                (
                    make_mixes,
                    (
                        inverse_rest_tiles,
                        rows,
                        shared,
                        sizes_of_mixes,
                        DELTA,
                        RESIDUAL,
                        FIRST,
                        SECOND,
                        FIT,
                        SUM,
                        DECAYED,
                        NORMALIZE,
                        REST,
                    ),
                ),
            ],
            [4],
            [152],
        )
    else:
        gl.warp_specialize(
            [
                (
                    carry_residual,
                    (
                        initial_R,
                        tiles,
                        shared,
                        stored_R,
                        sizes,
                        clip_inside,
                        V,
                        DELTA,
                        FIRST,
                        FIT,
                        CLIPPED,
                        SUM,
                        HAS_R,
                        KEEP,
                    ),
                ),
                (
                    make_mixes,
                    (
                        inverse_rest_tiles,
                        rows,
                        shared,
                        sizes_of_mixes,
                        DELTA,
                        RESIDUAL,
                        FIRST,
                        SECOND,
                        FIT,
                        SUM,
                        DECAYED,
                        NORMALIZE,
                        REST,
                    ),
                ),
            ],
            [4],
            [152],
        )
