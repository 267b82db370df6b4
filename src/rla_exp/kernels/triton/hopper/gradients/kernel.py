"""The gradients of q, k and the gates through one state in one kernel: shared memory, and which warps do what.

The sums are those of `gradients.py` beside this package. A program takes the chunks of a head between two checkpoints,
or some of them. One group of warps carries the state over them again (`states.py`), a chunk ahead of the other, which
makes the gradients (`sums.py`). All that these need has a place in shared memory, from where products take both
operands: so V is gone over once, and no sums but dq and dk of a chunk stay in registers.
"""

import triton.experimental.gluon.language as gl
from triton.experimental import gluon
from triton.experimental.gluon.language.nvidia.hopper import fence_async_shared, mbarrier

from rla_exp.kernels.triton.hopper.gradients.slots import BARRIERS, SLOTS, SUMS, TILES
from rla_exp.kernels.triton.hopper.gradients.states import carry_state
from rla_exp.kernels.triton.hopper.gradients.sums import make_gradients
from rla_exp.kernels.triton.hopper.layout import PART, PARTS, C


# one binary for all lengths: what the self-check compiled is what runs
@gluon.jit(do_not_specialize=["total", "T", "J0", "LS", "H", "SPAN", "UNITS"])
def fused_gradients_kernel(
    q_tiles,
    k_tiles,
    do_tiles,
    values_tiles,
    inverse_tiles,
    solved_tiles,
    after_tiles,
    back_tiles,
    dq_tiles,
    dk_tiles,
    checkpoints,
    rows,
    dg,
    d_strengths,
    total,
    T,
    J0,
    LS,
    H,
    SPAN,
    UNITS,
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
    SECOND: gl.constexpr,
):
    """SECOND: R, with gamma: dgamma, and R's shares of dq, dk and dg. Else S: dbeta, and the sums.

    Programs take the units of a slice, `total` in all, UNITS of SPAN chunks of each sequence and head, in turn. R
    leaves the gradient of the prediction for S (back_tiles).
    """
    tiles = gl.allocate_shared_memory(q_tiles.dtype, [TILES, 64, 64], gl.NVMMASharedLayout(128, 16))
    system = gl.allocate_shared_memory(q_tiles.dtype, [1, C, C], gl.NVMMASharedLayout(128, 16))
    ROW: gl.constexpr = gl.SwizzledSharedLayout(1, 1, 1, [0])
    gates = gl.allocate_shared_memory(gl.float32, [SLOTS * PARTS, PART], ROW)
    sums = gl.allocate_shared_memory(gl.float32, [SUMS, C], ROW)
    barriers = gl.allocate_shared_memory(gl.int64, [BARRIERS, 1], mbarrier.MBarrierLayout())
    for i in gl.static_range(BARRIERS):
        mbarrier.init(barriers.index(i), count=1)
    fence_async_shared()
    shared = (tiles, system, barriers, gates, sums)
    sizes = (T, J0, LS, H, SPAN, UNITS)
    gl.warp_specialize(
        [
            (
                make_gradients,
                (
                    dg, d_strengths, (q_tiles, do_tiles, solved_tiles, back_tiles), after_tiles,
                    (dq_tiles, dk_tiles), shared, sizes, total, scale,
                    V, DELTA, RESIDUAL, FIT, SUM, DECAYED, NORMALIZE, SECOND,
                ),
            ),
            (
                carry_state,
                (
                    checkpoints, rows, (k_tiles, values_tiles, inverse_tiles), back_tiles, shared, sizes, total, bound,
                    V, DELTA, RESIDUAL, CLIPPED, SECOND,
                ),
            ),
        ],
        [4],
        [256],
    )  # fmt: skip
