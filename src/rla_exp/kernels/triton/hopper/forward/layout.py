"""What the forward pass keeps in shared memory and where, its barriers, and how it rounds."""

# Gluon reads annotations: no `from __future__ import annotations` in files with kernels
import triton.experimental.gluon.language as gl
from triton.experimental import gluon

from rla_exp.kernels.triton.hopper.layout import BV, SQUARE, C
from rla_exp.kernels.triton.plan import CHECKPOINT_EVERY

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
# where R is carried alone, r comes in v's place, and o of S, of two chunks, in these
VALUES_O_ALONE = gl.constexpr(2)
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
BEYOND = gl.constexpr(1.0 + 2.0**-7)
"""From any number of 16 bits this leads to the next one at least."""


@gluon.jit
def rest(x, low):
    """What rounding x to low took of it, rounded likewise."""
    return (x - low.to(gl.float32)).to(low.dtype)


@gluon.jit
def bounded_by_twos(x, bound):
    """x [BV, C] in 16 bits, between -bound and bound; two numbers an instruction. A NaN stays one."""
    high = gl.full([BV, C], bound, gl.float32, SQUARE).to(x.dtype)
    low = gl.full([BV, C], -bound, gl.float32, SQUARE).to(x.dtype)
    kind: gl.constexpr = "bf16x2" if x.dtype == gl.bfloat16 else "f16x2"
    asm: gl.constexpr = "min.NaN." + kind + " $0, $1, $2; max.NaN." + kind + " $0, $0, $3;"
    return gl.inline_asm_elementwise(asm, "=&r,r,r,r", [x, high, low], dtype=x.dtype, is_pure=True, pack=2)
