"""The chunkwise form in PyTorch, with its gradients written out; docs/math.md derives both."""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from rla_exp.kernels.factors import plus
from rla_exp.kernels.inputs import Inputs
from rla_exp.kernels.layout import Layout, packed_layout, uniform_layout
from rla_exp.kernels.memory import Memory, MemoryGradients, memory_backward, memory_forward, shared_gradients
from rla_exp.kernels.options import Options
from rla_exp.kernels.output import output, output_backward, residual, residual_backward
from rla_exp.kernels.precision import without_autocast
from rla_exp.kernels.shared import Shared, make_shared, shared_backward
from rla_exp.kernels.state import State


def chunked(inputs: Inputs, options: Options) -> tuple[Tensor, State]:
    """o [B, T, H, V] in v's dtype and the final state, differentiable once."""
    o, state, _ = chunked_with_error(inputs, options)
    return o, state


def chunked_with_error(inputs: Inputs, options: Options) -> tuple[Tensor, State, Tensor | None]:
    """Also the residual before its clip [B, T, H, V], without gradients; None unless residual is "fit"."""
    x = inputs.upcast()
    layout = make_layout(x)
    S, R = x.first_state(options)
    o, S, R, error = _Chunked.apply(  # type: ignore[no-untyped-call]
        x.q, x.k, x.v, x.g, x.beta, x.gamma, S, R, layout, options
    )
    return o.to(inputs.v.dtype), State(S, R), error


def make_layout(inputs: Inputs) -> Layout:
    """Chunks of a length that suits the shape and the device."""
    B, T, H, K = inputs.q.shape
    head_dim, offsets = max(K, inputs.v.shape[-1]), inputs.offsets
    lengths = (T,) if offsets is None else tuple(end - start for start, end in pairwise(offsets))
    # a GPU's products like powers of two
    finer = inputs.q.device.type == "cpu"
    chunk = fitting_chunk(lengths, head_dim, chunk_length(head_dim, inputs.q.device), finer=finer)
    if offsets is None:
        return uniform_layout(B, T, H, chunk)
    return packed_layout(offsets, H, chunk, inputs.q.device)


@lru_cache(maxsize=16)
def fitting_chunk(lengths: tuple[int, ...], head_dim: int, longest: int, *, finer: bool = True) -> int:
    """The cheapest C up to `longest` for sequences of these lengths: eighths of `longest`, or (not finer) it halved.

    Places of a chunk behind the end of a sequence cost as much as tokens. A chunk by itself costs what it does to the
    state, measured on a CPU as 0 to 8 places for heads of 64, more with the additive rule than with the delta rule.
    """
    halved = [longest >> n for n in range(longest.bit_length())]
    choices = range(longest, 0, -max(1, longest // 8)) if finer else halved
    return min(choices, key=lambda chunk: sum(-(-n // chunk) for n in lengths) * (chunk + head_dim / 16))


def chunk_length(head_dim: int, device: torch.device) -> int:
    """C. Work within chunks grows with C, work between them shrinks."""
    if device.type != "cpu":
        return 64
    # the fastest of 16, 32 and 64 on one core, for heads of 16 to 128; elementwise passes over C x C decide
    return 16 if head_dim <= 16 else 32


class _Chunked(torch.autograd.Function):
    """q, k, v, g, beta, gamma, S, R -> o, S, R, and the residual before its clip."""

    @staticmethod
    def forward(
        ctx: Any,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        g: Tensor | None,
        beta: Tensor | None,
        gamma: Tensor | None,
        S: Tensor,
        R: Tensor | None,
        layout: Layout,
        options: Options,
    ) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
        shared = make_shared(layout, q, k, g, options)
        x, b, y = layout.split(v), _split_gate(layout, beta), _split_gate(layout, gamma)
        memory_S, last_S = memory_forward(
            layout, shared, x, b, layout.rows_of_states(S), delta=options.is_delta, read_at_k=options.reads_at_k
        )
        memory_R = last_R = error = None
        if R is not None:
            r = x
            if options.residual == "fit":
                r, error = residual(x, memory_S.at_k, shared.own, options)
            memory_R, last_R = memory_forward(
                layout, shared, r, y, layout.rows_of_states(R), delta=options.is_delta, read_at_k=options.is_delta
            )
            last_R = layout.states_of_rows(last_R)
        o = output(memory_S, memory_R, shared.own, shared.self_scores, options)

        ctx.layout, ctx.options, ctx.device = layout, options, q.device
        ctx.set_materialize_grads(False)
        absent = (None,) * len(Memory._fields)
        ctx.save_for_backward(*shared, *memory_S, *(memory_R or absent), error)
        merged_error = None
        if error is not None:
            merged_error = layout.merge(error)
            ctx.mark_non_differentiable(merged_error)
        return layout.merge(o), layout.states_of_rows(last_S), last_R, merged_error

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(
        ctx: Any, do: Tensor | None, dS: Tensor | None, dR: Tensor | None, _: None
    ) -> tuple[Tensor | None, ...]:
        # once: activation checkpointing gives the saved tensors out a single time
        saved = ctx.saved_tensors
        # under autocast the products here would be lowered like any other
        with without_autocast(ctx.device):
            return _backward(ctx.layout, ctx.options, saved, do, dS, dR)


def _backward(
    layout: Layout,
    options: Options,
    saved: tuple[Any, ...],
    do: Tensor | None,
    dS: Tensor | None,
    dR: Tensor | None,
) -> tuple[Tensor | None, ...]:
    num_shared, num_memory = len(Shared._fields), len(Memory._fields)
    shared = Shared(*saved[:num_shared])
    S = Memory(*saved[num_shared : num_shared + num_memory])
    R = Memory(*saved[num_shared + num_memory : -1]) if options.has_residual else None
    error = saved[-1]

    do = torch.zeros_like(S.x) if do is None else layout.split(do)
    dS = None if dS is None else layout.rows_of_states(dS)
    dR = None if dR is None else layout.rows_of_states(dR)
    d = output_backward(do, S, R, shared.own, shared.self_scores, options)
    parts: list[tuple[Memory, MemoryGradients]] = []
    d_own, dv, d_S_at_k, d_R, d_gamma = d.own, None, None, None, None
    if R is not None and d.R_at_q is not None:
        d_R = memory_backward(layout, shared, R, _reads(R, None, d.R_at_q), d.u, dR)
        d_gamma = plus(d.gamma, d_R.gate)
        dv = d_R.x
        if options.residual == "fit":
            dv, d_S_at_k, d_a = residual_backward(d_R.x, R.x, error, S.at_k, shared.own, options)
            d_own = plus(d_own, d_a)
        parts.append((R, d_R))
    d_S = memory_backward(layout, shared, S, _reads(S, d_S_at_k, d.S_at_q), d.u if R is None else None, dS)
    gradients = shared_gradients(shared, [(S, d_S), *parts], d.self_scores, d_own)
    dq, dk, dg = shared_backward(shared, gradients, options)
    return (
        layout.merge(dq),
        layout.merge(dk),
        layout.merge(d_S.x if dv is None else d_S.x.add_(dv)),
        None if dg is None else layout.merge(dg),
        None if d_S.gate is None else layout.merge(d_S.gate.squeeze(-1)),
        None if d_gamma is None else layout.merge(d_gamma.squeeze(-1)),
        layout.states_of_rows(d_S.first),
        None if d_R is None else layout.states_of_rows(d_R.first),
        None,
        None,
    )


def _split_gate(layout: Layout, gate: Tensor | None) -> Tensor | None:
    """[B, T, H] -> [rows, C, 1]."""
    return None if gate is None else layout.split(gate).unsqueeze(-1)


def _reads(memory: Memory, at_k: Tensor | None, at_q: Tensor) -> Tensor:
    """Gradients of reads at the keys, zeros where None, and at the queries, as `Memory.reads` has them."""
    if memory.reads.shape[1] == at_q.shape[1]:
        return at_q
    return torch.cat((torch.zeros_like(at_q) if at_k is None else at_k, at_q), dim=1)
