"""The chunkwise form in PyTorch (docs/math.md derives it)."""

from __future__ import annotations

import torch
from torch import Tensor

from rla_exp.kernels.inputs import Inputs
from rla_exp.kernels.layout import Layout, packed_layout, uniform_layout
from rla_exp.kernels.options import Options
from rla_exp.kernels.state import State


def chunked(inputs: Inputs, options: Options) -> tuple[Tensor, State]:
    """o [B, T, H, V] in v's dtype and the final state."""
    o, state, _ = chunked_with_error(inputs, options)
    return o, state


def chunked_with_error(inputs: Inputs, options: Options) -> tuple[Tensor, State, Tensor | None]:
    """Also the residual before its clip [B, T, H, V]; None unless residual is "fit"."""
    x = inputs.upcast()
    q, k = x.scaled_qk(options)
    B, T, H, _ = q.shape
    C = 32
    layout = uniform_layout(B, T, H, C) if x.offsets is None else packed_layout(x.offsets, H, C, q.device)
    q, k, v = layout.split(q), layout.split(k), layout.split(x.v)
    l = q.new_zeros(q.shape[:2]) if x.g is None else layout.split(x.g)
    b, y = (None if t is None else layout.split(t).unsqueeze(-1) for t in (x.beta, x.gamma))
    # padding must not write
    b = layout.split(x.q.new_ones(B, T, H)).unsqueeze(-1) if b is None else b
    S, R = x.first_state(options)

    mask = torch.ones(C, C, dtype=torch.bool, device=q.device).tril(-1)
    segment = (l.unsqueeze(-1) * mask).cumsum(1) - 0.0
    before = torch.cat((segment[:, :1] * 0, segment[:, :-1]), 1).masked_fill(~mask, -torch.inf).exp()
    a = l.exp().unsqueeze(-1)
    from_start = (l.cumsum(1) - l).exp().unsqueeze(-1)
    from_start = torch.cat((torch.zeros_like(l[:, :1]), l[:, :-1]), 1).cumsum(1).exp().unsqueeze(-1)
    to_end = torch.cat((l[:, 1:], torch.zeros_like(l[:, :1])), 1).flip(1).cumsum(1).flip(1).exp().unsqueeze(-1)
    whole = l.sum(1).exp()[:, None, None]
    N, A = before * (k @ k.mT), before * (q @ k.mT)
    kq = (k * q).sum(-1, keepdim=True)
    k_end = to_end * k

    def write(v: Tensor, b: Tensor, S: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        if options.is_delta:
            system = b * a * N
            solved = torch.linalg.solve_triangular(
                system, torch.cat((b * v, b * a * from_start * k), -1), upper=False, unitriangular=True
            )
            free, W = solved.split((v.shape[-1], k.shape[-1]), -1)
            M = whole * torch.eye(k.shape[-1], dtype=k.dtype, device=k.device) - k_end.mT @ W
        else:
            free, W, M = b * v, None, whole.expand(-1, k.shape[-1], 1)
        starts, final = scan(layout, S, M, k_end.mT @ free, options.is_delta)
        u = free if W is None else free - W @ starts
        return u, starts, final

    u, starts, S = write(v, b, layout.rows_of_states(S))
    Sq = from_start * (q @ starts) + A @ u
    error = None
    if R is None:
        o = a * Sq + kq * u
    else:
        r = v
        if options.residual == "fit":
            Sk = from_start * (k @ starts) + N @ u
            error = v - (a * Sk if options.decayed_prediction else Sk)
            r = error if options.clip is None else error.clamp(-options.clip, options.clip)
        w, starts, R = write(r, y, layout.rows_of_states(R))
        Rq = a * (from_start * (q @ starts) + A @ w) + kq * w
        o = a * Sq + y * Rq if options.output == "gated" else Sq + Rq
        R = layout.states_of_rows(R)
    return (
        layout.merge(o, B).to(inputs.v.dtype),
        State(layout.states_of_rows(S), R),
        (None if error is None else layout.merge(error, B)),
    )


def scan(layout: Layout, S: Tensor, M: Tensor, local: Tensor, matrix: bool) -> tuple[Tensor, Tensor]:
    """S_1 = M S_0 + local, chunk after chunk: the states before every chunk and the last ones."""
    starts, final, row = [], [], 0
    for rows in layout.slabs:
        final.append(S[rows:])
        S = S[:rows]
        starts.append(S)
        m, s = M[row : row + rows], local[row : row + rows]
        S = torch.baddbmm(s, m, S) if matrix else m * S + s
        row += rows
    final.append(S)
    return torch.cat(starts), torch.cat(final[::-1])
