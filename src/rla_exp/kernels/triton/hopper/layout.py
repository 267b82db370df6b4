"""Sizes, what lies where in shared memory and in registers, and what every group of warps does with it."""

# Gluon reads annotations: no `from __future__ import annotations` in files with kernels
import triton.experimental.gluon.language as gl
from triton.experimental import gluon

from rla_exp.kernels.triton.plan import CHECKPOINT_EVERY

C = gl.constexpr(64)
K = gl.constexpr(128)
BV = gl.constexpr(64)
BATCH = gl.constexpr(CHECKPOINT_EVERY)
SLOTS = gl.constexpr(3)
"""Chunks of q, k, T_b and the gates in shared memory at a time; of all else two, or one."""
# What shared memory holds, by few names: each takes a register of the warps that are given it.
# [64, K]: of q and k SLOTS each
KEYS_AT = gl.constexpr(3)
# [64, 64], from the copy engine: T_b, T_y, and what rounding took of T_b
SYSTEMS_Y = gl.constexpr(3)
SYSTEMS_REST = gl.constexpr(5)
# [64, 64], products of make_mixes: PREDICT, A_s, A, and what rounding took of PREDICT
MIXES_S = gl.constexpr(2)
MIXES_R = gl.constexpr(3)
MIXES_REST = gl.constexpr(5)
# [64, 64]: v, r and o
VALUES_R = gl.constexpr(2)
VALUES_O = gl.constexpr(3)
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
# barriers: what is ready for its readers, or free for its writer
KEYS_READY = gl.constexpr(0)
DONE = gl.constexpr(3)
LATE_READY = gl.constexpr(6)
GATES_READY = gl.constexpr(8)
MIX_R_READY = gl.constexpr(10)
REST_READY = gl.constexpr(12)
MIX_S_READY = gl.constexpr(13)
MIX_S_FREE = gl.constexpr(14)
R_READY = gl.constexpr(15)
R_FREE = gl.constexpr(16)
O_READY = gl.constexpr(17)
O_FREE = gl.constexpr(18)
BARRIERS = gl.constexpr(19)
# layouts of accumulators: of [64, 64] and of a state
SQUARE = gl.constexpr(gl.NVMMADistributedLayout([3, 0], [4, 1], [16, 64, 16]))
STATE = gl.constexpr(gl.NVMMADistributedLayout([3, 0], [4, 1], [16, 128, 16]))
LEFT = gl.constexpr(gl.DotOperandLayout(0, SQUARE.value, 2))
LEFT_OF_STATE = gl.constexpr(gl.DotOperandLayout(0, STATE.value, 2))
BY_ROW = gl.constexpr(gl.SliceLayout(1, SQUARE.value))
BY_COLUMN = gl.constexpr(gl.SliceLayout(0, SQUARE.value))
GATES = gl.constexpr(gl.BlockedLayout([2], [32], [4], [0]))
LOG2E = gl.constexpr(1.4426950408889634)
BEYOND = gl.constexpr(1.0 + 2.0**-7)
"""From any number of 16 bits this leads to the next one at least."""


@gluon.jit
def rest(x, low):
    """What rounding x to low took of it, rounded likewise."""
    return (x - low.to(gl.float32)).to(low.dtype)


@gluon.jit
def bounded(x, bound):
    """x [BV, C] in 16 bits, between -bound and bound; two numbers an instruction. A NaN stays one."""
    high = gl.full([BV, C], bound, gl.float32, SQUARE).to(x.dtype)
    low = gl.full([BV, C], -bound, gl.float32, SQUARE).to(x.dtype)
    kind: gl.constexpr = "bf16x2" if x.dtype == gl.bfloat16 else "f16x2"
    asm: gl.constexpr = "min.NaN." + kind + " $0, $1, $2; max.NaN." + kind + " $0, $0, $3;"
    return gl.inline_asm_elementwise(asm, "=&r,r,r,r", [x, high, low], dtype=x.dtype, is_pure=True, pack=2)


@gluon.jit
def as_left(x, dtype: gl.constexpr):
    """An accumulator as the operand on the left of a product of [64, 64]."""
    return gl.convert_layout(x.to(dtype), LEFT)


@gluon.jit
def gate(gates, slot, row: gl.constexpr, layout: gl.constexpr):
    """One row of a chunk's gates."""
    return gates.index(slot * PARTS + row // 4).slice(row % 4 * C, C).load(layout)


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
