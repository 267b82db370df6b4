"""Which chunks a program of the gradients' kernel takes: units of a few, one after the other."""

# tuples are unpacked whole
import triton.experimental.gluon.language as gl
from triton.experimental import gluon

from rla_exp.kernels.triton.hopper.layout import C
from rla_exp.kernels.triton.plan import CHECKPOINT_EVERY

EVERY = gl.constexpr(CHECKPOINT_EVERY)


@gluon.jit
def unit_at(unit, sizes):
    """(spot, chunks, before, checkpoint) of the unit-th of all units of a slice.

    spot: of its first chunk its place among the slice's, its first token, its head, its place among all chunks.
    before: chunks between the checkpoint, whose place among all is told as well, and the unit.
    """
    T, J0, LS, H, SPAN, UNITS = sizes
    head = unit % H
    n = unit // H // UNITS
    first = unit // H % UNITS * SPAN
    j = J0 + first
    of_sequence = T // C
    chunks = gl.minimum(SPAN, LS - first)
    checkpoint = (n * of_sequence // EVERY + n + j // EVERY) * H + head
    spot = ((n * LS + first) * H + head, n * T + j * C, head, (n * of_sequence + j) * H + head)
    return spot, chunks, j % EVERY, checkpoint


@gluon.jit
def moved(spot, chunks, H):
    """As many chunks on, in the same sequence."""
    at, token, head, place = spot
    return at + chunks * H, token + chunks * C, head, place + chunks * H
