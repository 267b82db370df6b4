"""The gates of a chunk: brought into registers, and the decays between its tokens."""

import triton.experimental.gluon.language as gl
from triton.experimental import gluon

from rla_exp.kernels.triton.hopper.layout import GATES, PART, PARTS


@gluon.jit
def load_gates(rows, at):
    """All rows of a chunk, by four."""
    here = rows + at.to(gl.int64) * (PARTS * PART) + gl.arange(0, PART, GATES)
    return gl.load(here), gl.load(here + PART), gl.load(here + 2 * PART)


@gluon.jit
def decays(of_reader, of_key, mask):
    """exp of their differences, masked before: beyond the mask the exponent may overflow."""
    exponents = of_reader[:, None] - of_key[None, :]
    return gl.exp2(gl.where(mask, exponents, float("-inf")))
