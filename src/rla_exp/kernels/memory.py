"""One state through the chunks, forward and backward; S and R differ only in what they are fed.

docs/math.md derives it ("Chunks", "Gradients"). The only loops are over chunks, for what the next chunk needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from rla_exp.kernels.factors import dot, plus, product, times
from rla_exp.kernels.layout import Layout
from rla_exp.kernels.shared import Shared, SharedGradients


class Memory(NamedTuple):
    """One state's way through all chunks (rows: chunks of all sequences and heads)."""

    x: Tensor
    """[rows, C, V]: what is written, v or r."""
    gate: Tensor | None
    """[rows, C, 1]: beta or gamma; None: 1."""
    gain: Tensor | None
    """[rows, C, 1]: gate times a_t, None: 1; only the delta rule's."""
    inverse: Tensor | None
    """[rows, C, C]: (I + gain scores)^-1 at the keys; None with the additive rule."""
    u: Tensor
    """[rows, C, V]: the correction, S_t = a_t S_{t-1} + k_t u_t^T."""
    reads: Tensor
    """[rows, 2 C or C, V]: S_{t-1} read at k_t, where anyone does, and at q_t."""
    starts: Tensor
    """[rows, K, V]: the state before each chunk."""

    @property
    def at_k(self) -> Tensor:
        """[rows, C, V]: S_{t-1} read at k_t."""
        return self.reads[:, : self.x.shape[1]]

    @property
    def at_q(self) -> Tensor:
        """[rows, C, V]: S_{t-1} read at q_t."""
        return self.reads[:, -self.x.shape[1] :]


class MemoryGradients(NamedTuple):
    """Gradients that one state knows of."""

    x: Tensor
    gate: Tensor | None
    own: Tensor | None
    """Of a_t, through the error that the delta rule corrects; None where there is none."""
    first: Tensor
    """Of the state before the first chunk."""
    reads: Tensor
    """[rows, 2 C or C, V], with what the delta rule reads at the keys."""
    ends: Tensor
    """[rows, K, V]: of the state after each chunk."""


def memory_forward(
    layout: Layout, shared: Shared, x: Tensor, gate: Tensor | None, first: Tensor, *, delta: bool, read_at_k: bool
) -> tuple[Memory, Tensor]:
    """Write x at every token and read before it. Also the state after the last token, ordered as `first`."""
    C = shared.chunk
    num_readers = 2 * C if read_at_k else C
    readers, scores = shared.decayed_readers[:, -num_readers:], shared.scores[:, -num_readers:]
    whole = shared.whole
    written = times(x, gate)
    reads = x.new_empty(x.shape[0], num_readers, x.shape[2])
    starts = x.new_empty(x.shape[0], *first.shape[1:])
    gain = inverse = None
    if delta:
        # u = gate (x - a S_{t-1} k) and S_{t-1} k holds the earlier u: a triangular system a chunk
        gain = product(gate, shared.own)
        inverse = unit_lower_inverse(times(scores[:, :C], gain))
        u = torch.empty_like(x)
    else:
        u = written
        local = torch.bmm(shared.decayed_k.mT, u)

    state = first.clone()
    for at, rows in layout.slabs():
        starts[at] = state[:rows]
        decayed = times(starts[at], None if whole is None else whole[at])
        if inverse is None:
            torch.add(decayed, local[at], out=state[:rows])
            continue
        at_k = torch.bmm(readers[at], starts[at], out=reads[at])[:, :C]
        error = written[at] - at_k if gain is None else torch.addcmul(written[at], gain[at], at_k, value=-1)
        torch.bmm(inverse[at], error, out=u[at])
        torch.baddbmm(decayed, shared.decayed_k[at].mT, u[at], out=state[:rows])
    if inverse is None:
        torch.bmm(readers, starts, out=reads)
    reads.baddbmm_(scores, u)
    return Memory(x, gate, gain, inverse, u, reads, starts), state


def memory_backward(
    layout: Layout, shared: Shared, memory: Memory, d_reads: Tensor, d_u: Tensor | None, d_last: Tensor | None
) -> MemoryGradients:
    """From the gradients of the reads, of u (None: zero; both overwritten) and of the last state."""
    gate, gain, inverse = memory.gate, memory.gain, memory.inverse
    C, num_readers = shared.chunk, d_reads.shape[1]
    readers, scores = shared.decayed_readers[:, -num_readers:].mT, shared.scores[:, -num_readers:].mT
    whole = shared.whole
    d_u = torch.bmm(scores, d_reads) if d_u is None else d_u.baddbmm_(scores, d_reads)
    d_starts = torch.bmm(readers, d_reads)
    ends = torch.empty_like(d_starts)
    d_error, d_at_k = torch.empty_like(d_u), torch.empty_like(d_u)

    shape = layout.num_state_rows, *d_starts.shape[1:]
    d_state = d_starts.new_zeros(shape) if d_last is None else d_last.clone()
    for at, rows in reversed(layout.slabs()):
        ends[at] = d_state[:rows]
        if inverse is not None:
            d_u[at].baddbmm_(shared.decayed_k[at], ends[at])
            torch.bmm(inverse[at].mT, d_u[at], out=d_error[at])
            torch.mul(d_error[at], -1 if gain is None else -gain[at], out=d_at_k[at])
            d_starts[at].baddbmm_(readers[at][:, :, :C], d_at_k[at])
        torch.add(d_starts[at], times(ends[at], None if whole is None else whole[at]), out=d_state[:rows])

    if inverse is None:
        d_error = d_u.baddbmm_(shared.decayed_k, ends)
        d_gate = None if gate is None else dot(d_error, memory.x)
        return MemoryGradients(times(d_error, gate), d_gate, None, d_state, d_reads, ends)
    dx = times(d_error, gate)
    d_gate = None if gate is None else dot(d_error, memory.x - times(memory.at_k, shared.own))
    d_own = None if shared.own is None else -dot(dx, memory.at_k)
    d_reads[:, :C] += d_at_k
    return MemoryGradients(dx, d_gate, d_own, d_state, d_reads, ends)


def shared_gradients(
    shared: Shared, parts: Sequence[tuple[Memory, MemoryGradients]], d_self_scores: Tensor, d_own: Tensor | None
) -> SharedGradients:
    """Add up what the states, S first, say of the parts that they share, to what the output says."""
    memory, gradients = parts[0]
    d_scores = torch.bmm(gradients.reads, memory.u.mT)
    d_readers = torch.bmm(gradients.reads, memory.starts.mT)
    d_decayed_k = torch.bmm(memory.u, gradients.ends.mT)
    for memory, gradients in parts[1:]:
        _add_product(d_scores, gradients.reads, memory.u)
        _add_product(d_readers, gradients.reads, memory.starts)
        _add_product(d_decayed_k, memory.u, gradients.ends)
    d_own = plus(d_own, *(gradients.own for _, gradients in parts))
    d_whole = None
    if shared.whole is not None:
        d_whole = plus(*((memory.starts * gradients.ends).sum((1, 2), keepdim=True) for memory, gradients in parts))
    return SharedGradients(d_scores, d_readers, d_decayed_k, d_self_scores, d_own, d_whole)


def unit_lower_inverse(lower: Tensor) -> Tensor:
    """(I + lower)^-1 for strictly lower triangular matrices, by substitution: a series of powers would overflow."""
    identity = torch.eye(lower.shape[-1], dtype=lower.dtype, device=lower.device)
    inverse: Tensor = torch.linalg.solve_triangular(lower, identity.expand_as(lower), upper=False, unitriangular=True)
    return inverse


def _add_product(total: Tensor, x: Tensor, y: Tensor) -> None:
    """Add x y^T to the last rows of total."""
    if x.shape[1] == total.shape[1]:
        total.baddbmm_(x, y.mT)
    else:
        total[:, -x.shape[1] :] += torch.bmm(x, y.mT)
