"""The definition of the operator: one token after the other, as the paper writes it.

Source: "Enhancing Linear Attention with Residual Learning" (arXiv 2509.25223), the recurrences of RLA and RDN and the
gated output. Legend, per head: q, k, v of one token; a = exp(g) the decay; b = beta, y = gamma; S, R the states.
S and R here are the transposed of the paper's (K x V), so the paper's S k is `read(S, k)`.
Everything else in this package is measured against this file.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from rla_exp.kernels.inputs import Inputs
from rla_exp.kernels.options import Options
from rla_exp.kernels.state import State


def recurrent(inputs: Inputs, options: Options) -> tuple[Tensor, State]:
    """o [B, T, H, V] in v's dtype and the final state, differentiable by autograd; float64 where the inputs are."""
    x = inputs.upcast()
    q, k = x.scaled_qk(options)
    a = torch.ones_like(q[..., 0]) if x.g is None else x.g.exp()
    b = torch.ones_like(a) if x.beta is None else x.beta
    y = torch.zeros_like(a) if x.gamma is None else x.gamma
    S, R = x.first_state(options)

    if x.offsets is None:
        o, S, R = sequence(q, k, x.v, a, b, y, S, R, options)
        return o.to(inputs.v.dtype), State(S, R)

    results = []
    for n, (start, end) in enumerate(pairwise(x.offsets)):
        q_n, k_n, v_n, a_n, b_n, y_n = (tensor[:, start:end] for tensor in (q, k, x.v, a, b, y))
        R_n = None if R is None else R[n : n + 1]
        results.append(sequence(q_n, k_n, v_n, a_n, b_n, y_n, S[n : n + 1], R_n, options))
    o = torch.cat([result[0] for result in results], dim=1)
    S = torch.cat([result[1] for result in results])
    R = None if R is None else torch.cat([result[2] for result in results if result[2] is not None])
    return o.to(inputs.v.dtype), State(S, R)


def sequence(
    q: Tensor, k: Tensor, v: Tensor, a: Tensor, b: Tensor, y: Tensor, S: Tensor, R: Tensor | None, options: Options
) -> tuple[Tensor, Tensor, Tensor | None]:
    """The recurrence over T tokens: q, k [B, T, H, K], v [B, T, H, V], gates [B, T, H], states [B, H, K, V]."""
    outputs = [v[:, :0]]
    for t in range(q.shape[1]):
        o_t, S, R = token(
            q[:, t], k[:, t], v[:, t], a[:, t, :, None], b[:, t, :, None], y[:, t, :, None], S, R, options
        )
        outputs.append(o_t.unsqueeze(1))
    return torch.cat(outputs, dim=1), S, R


def token(
    q: Tensor, k: Tensor, v: Tensor, a: Tensor, b: Tensor, y: Tensor, S: Tensor, R: Tensor | None, options: Options
) -> tuple[Tensor, Tensor, Tensor | None]:
    """One token: q, k [B, H, K], v [B, H, V], gates [B, H, 1]."""
    S_before = S
    # S_t = a S_{t-1} + b v k^T, or with the delta rule a S_{t-1} (I - b k k^T) + b v k^T
    S = write(S, k, v, a, b, options)
    if R is None:
        return read(S, q), S, None

    if options.residual == "fit":
        # r_t = clip_[-c, c](v_t - S_{t-1} k_t)
        prediction = read(S_before, k)
        if options.decayed_prediction:
            prediction = a * prediction
        r = v - prediction
        if options.clip is not None:
            r = r.clamp(-options.clip, options.clip)
    else:
        r = v
    # R_t is written as S_t is, from r_t with gamma_t
    R = write(R, k, r, a, y, options)

    if options.output == "gated":
        # o_t = a S_{t-1} q + y R_t q
        return a * read(S_before, q) + y * read(R, q), S, R
    return read(S_before, q) + read(R, q), S, R


def read(S: Tensor, k: Tensor) -> Tensor:
    """The paper's S k: [B, H, K, V], [B, H, K] -> [B, H, V]."""
    return (k.unsqueeze(-2) @ S).squeeze(-2)


def write(S: Tensor, k: Tensor, v: Tensor, a: Tensor, b: Tensor, options: Options) -> Tensor:
    """The state after a S + b v k^T; the delta rule first takes out what S holds at k."""
    if options.is_delta:
        S = S - outer(k, b * read(S, k))
    return a.unsqueeze(-1) * S + outer(k, b * v)


def outer(k: Tensor, v: Tensor) -> Tensor:
    """k v^T: [B, H, K], [B, H, V] -> [B, H, K, V]."""
    return k.unsqueeze(-1) * v.unsqueeze(-2)
