"""One token of decoding: each state is read once, for q and k together, and written once."""

from __future__ import annotations

import torch
from torch import Tensor

from rla_exp.kernels.inputs import Inputs
from rla_exp.kernels.options import Options
from rla_exp.kernels.state import State


def step(inputs: Inputs, options: Options, *, inplace: bool) -> tuple[Tensor, State]:
    """o [B, H, V] in v's dtype and the state after one token; the algebra is in docs/math.md, "One step".

    With S q, S k (R likewise) of the states before the token, and kq = k . q:
        u = b (v - a S k),  w = y (r - a R k)         (additive rule: u = b v, w = y r)
        o = a S q + y (a R q + kq w)                  (residual off: a S q + kq u)
    """
    x = inputs.upcast()
    assert x.initial_state is not None
    S, R = x.initial_state
    q, k = x.scaled_qk(options)
    qk = torch.stack((q, k), dim=-2)
    a = None if x.g is None else x.g.exp().unsqueeze(-1)

    Sq, Sk = (qk @ S).unbind(-2)
    aSq = _decayed(Sq, a)
    u = _correction(x.v, Sk, a, x.beta, options)
    kq = (q * k).sum(-1, keepdim=True)

    if R is None:
        o = aSq + kq * u
    else:
        assert x.gamma is not None
        Rq, Rk = (qk @ R).unbind(-2)
        r = x.v
        if options.residual == "fit":
            r = x.v - (_decayed(Sk, a) if options.decayed_prediction else Sk)
            r = r if options.clip is None else r.clamp(-options.clip, options.clip)
        w = _correction(r, Rk, a, x.gamma, options)
        Rq = _decayed(Rq, a) + kq * w
        o = aSq + x.gamma.unsqueeze(-1) * Rq if options.output == "gated" else Sq + Rq
        R = _write(R, k, w, a, inplace=inplace)
    S = _write(S, k, u, a, inplace=inplace)
    return o.to(inputs.v.dtype), State(S, R)


def _decayed(x: Tensor, a: Tensor | None) -> Tensor:
    return x if a is None else a * x


def _correction(v: Tensor, Sk: Tensor, a: Tensor | None, b: Tensor | None, options: Options) -> Tensor:
    """What is written at k: b v, or b (v - a S k) with the delta rule."""
    error = v - _decayed(Sk, a) if options.is_delta else v
    return error if b is None else b.unsqueeze(-1) * error


def _write(S: Tensor, k: Tensor, u: Tensor, a: Tensor | None, *, inplace: bool) -> Tensor:
    """a S + u k^T."""
    k, u = k.unsqueeze(-1), u.unsqueeze(-2)
    if inplace:
        decayed = S if a is None else S.mul_(a.unsqueeze(-1))
        return decayed.addcmul_(k, u)
    return torch.addcmul(S if a is None else S * a.unsqueeze(-1), k, u)
