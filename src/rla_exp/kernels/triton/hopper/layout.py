"""Sizes, the rows of the gates, what lies where in registers, and what every group of warps does with it."""

# Gluon reads annotations: no `from __future__ import annotations` in files with kernels
import triton.experimental.gluon.language as gl
import triton.language as tl
from triton.experimental import gluon

C = gl.constexpr(64)
K = gl.constexpr(128)
BV = gl.constexpr(64)
# rows of the gates of a chunk, as plan.py has them
G_ROW = gl.constexpr(0)
G_BEFORE = gl.constexpr(1)
BETA = gl.constexpr(2)
GAMMA = gl.constexpr(3)
NORM_OF_K = gl.constexpr(4)
NORM_OF_Q = gl.constexpr(5)
HOLD = gl.constexpr(6)
PREDICT = gl.constexpr(7)
GET = gl.constexpr(8)
READ_S = gl.constexpr(9)
READ_R = gl.constexpr(10)
DECAY = gl.constexpr(11)
# by four: sizes are powers of two
PARTS = gl.constexpr(3)
PART = gl.constexpr(4 * 64)
# layouts of accumulators: of [64, 64] and of a state
SQUARE = gl.constexpr(gl.NVMMADistributedLayout([3, 0], [4, 1], [16, 64, 16]))
STATE = gl.constexpr(gl.NVMMADistributedLayout([3, 0], [4, 1], [16, 128, 16]))
LEFT = gl.constexpr(gl.DotOperandLayout(0, SQUARE.value, 2))
LEFT_OF_STATE = gl.constexpr(gl.DotOperandLayout(0, STATE.value, 2))
BY_ROW = gl.constexpr(gl.SliceLayout(1, SQUARE.value))
BY_COLUMN = gl.constexpr(gl.SliceLayout(0, SQUARE.value))
GATES = gl.constexpr(gl.BlockedLayout([2], [32], [4], [0]))
LOG2E = gl.constexpr(1.4426950408889634)


@gluon.jit
def as_left(x, dtype: gl.constexpr):
    """An accumulator as the operand on the left of a product of [64, 64]."""
    return gl.convert_layout(x.to(dtype), LEFT)


@gluon.jit
def gate(gates, slot, row: gl.constexpr, layout: gl.constexpr):
    """One row of a chunk's gates."""
    return gates.index(slot * PARTS + row // 4).slice(row % 4 * C, C).load(layout)


@gluon.jit
def bounded(x, bound):
    """x in float32, between -bound and bound. A NaN stays one."""
    x = gl.minimum(x, bound, propagate_nan=tl.PropagateNan.ALL)
    return gl.maximum(x, -bound, propagate_nan=tl.PropagateNan.ALL)


@gluon.jit
def here(x):
    """x, worked out where it stands: moved out of a loop, what follows from it would take the loop's registers."""
    return gl.inline_asm_elementwise("mov.b32 $0, $1;", "=r,r", [x], dtype=gl.int32, is_pure=False, pack=1)


@gluon.jit
def state_places(V: gl.constexpr):
    v = here(gl.arange(0, BV, gl.SliceLayout(1, STATE)))
    k = here(gl.arange(0, K, gl.SliceLayout(0, STATE)))
    return v[:, None] + k[None, :] * V


@gluon.jit
def load_state(x, V: gl.constexpr, HAS_INITIAL: gl.constexpr):
    """The transposed of columns of a state [K, V], from x on; zeros where there is none."""
    if HAS_INITIAL:
        state = gl.load(x + state_places(V))
    else:
        state = gl.zeros([BV, K], gl.float32, STATE)
    return state


@gluon.jit
def store_state(x, state, V: gl.constexpr):
    gl.store(x + state_places(V), state)
