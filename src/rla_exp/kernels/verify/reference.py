"""The results in float64 that a backend is measured against."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from rla_exp.kernels.chunked import chunked
from rla_exp.kernels.inputs import Inputs
from rla_exp.kernels.options import Options
from rla_exp.kernels.recurrent import recurrent
from rla_exp.kernels.state import State

Compute = Callable[[Inputs, Options], tuple[Tensor, State]]

MAX_TOKENS_OF_THE_DEFINITION = 65


def definition(problem: Inputs) -> Compute:
    """Token by token where that is not too slow, else the chunked form, which tests hold to the former at 1e-12."""
    return recurrent if problem.q.shape[1] <= MAX_TOKENS_OF_THE_DEFINITION else chunked


def with_clip_mask(mask: Tensor) -> Compute:
    """The definition but for the clip's gradient, which passes where `mask` [B, T, H, V] is True.

    Built from the operator without a residual, which knows nothing of clips: S_{t-1} k_t is its output for the query of
    the token before, and R is a state of its own that is fed r.
    """

    def compute(x: Inputs, options: Options) -> tuple[Tensor, State]:
        plain = Options(rule=options.rule, scale=1.0)
        run = definition(x)
        S0, R0 = x.first_state(options)
        q, k = x.scaled_qk(options)
        a = torch.ones_like(q[..., 0]) if x.g is None else x.g.exp()
        assert x.gamma is not None
        assert R0 is not None
        assert options.clip is not None
        first = replace(x, k=k, gamma=None, initial_state=State(S0, None))
        S_at_k, state = _read_before(run, first, k, plain)
        S_at_q, _ = _read_before(run, first, q, plain)
        error = x.v - (a.unsqueeze(-1) * S_at_k if options.decayed_prediction else S_at_k)
        r = error.clamp(-options.clip, options.clip).detach() + torch.where(mask, error - error.detach(), 0)
        second = replace(x, q=q, k=k, v=r, beta=x.gamma, gamma=None, initial_state=State(R0, None))
        R_at_q, (R, _) = run(second, plain)
        if options.output == "gated":
            S_at_q, R_at_q = a.unsqueeze(-1) * S_at_q, x.gamma.unsqueeze(-1) * R_at_q
        return S_at_q + R_at_q, State(state.S, R)

    return compute


def _read_before(run: Compute, x: Inputs, reader: Tensor, options: Options) -> tuple[Tensor, State]:
    """S_{t-1} read at reader_t [B, T, H, K], and the last state."""
    assert x.initial_state is not None
    S0 = x.initial_state.S
    after, state = run(replace(x, q=reader.roll(-1, dims=1)), options)
    before = after.roll(1, dims=1)
    offsets = (0, x.q.shape[1]) if x.offsets is None else x.offsets
    starts = [(n, start) for n, start in enumerate(offsets[:-1]) if offsets[n + 1] > start]
    at = torch.tensor([start for _, start in starts], device=reader.device)
    if x.offsets is None:
        firsts = (reader[:, 0].unsqueeze(-2) @ S0).movedim(2, 1)
    else:
        of_start = torch.tensor([n for n, _ in starts], device=reader.device)
        firsts = (reader[0, at].unsqueeze(-2) @ S0[of_start]).movedim(2, 0)
    return before.index_copy(1, at, firsts), state
