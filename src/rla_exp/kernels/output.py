"""From the two states' reads to the residual and the output, and back (docs/math.md, "Residual and output")."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from rla_exp.kernels.factors import dot, times
from rla_exp.kernels.memory import Memory
from rla_exp.kernels.options import Options


class OutputGradients(NamedTuple):
    """Gradients of what the output is made of; None where it is not."""

    S_at_q: Tensor
    R_at_q: Tensor | None
    u: Tensor
    """Of the correction that the output reads: R's, without a residual S's."""
    self_scores: Tensor
    own: Tensor | None
    gamma: Tensor | None


def residual(v: Tensor, S_at_k: Tensor, own: Tensor | None, options: Options) -> tuple[Tensor, Tensor]:
    """r and the same before its clip, from S_{t-1} k_t."""
    error = v - (times(S_at_k, own) if options.decayed_prediction else S_at_k)
    return error if options.clip is None else error.clamp(-options.clip, options.clip), error


def residual_backward(
    d_r: Tensor, r: Tensor, error: Tensor, S_at_k: Tensor, own: Tensor | None, options: Options
) -> tuple[Tensor, Tensor, Tensor | None]:
    """The gradients of v, of S_{t-1} k_t and of a_t; the clip passes those of entries within the bound."""
    d_error = d_r if options.clip is None else d_r * (r == error)
    if options.decayed_prediction and own is not None:
        return d_error, -own * d_error, -dot(d_error, S_at_k)
    return d_error, -d_error, None


def output(S: Memory, R: Memory | None, own: Tensor | None, self_scores: Tensor, options: Options) -> Tensor:
    """o [rows, C, V]. A read after the write at t is a_t (read before it) + (q_t . k_t) u_t."""
    if R is None:
        return torch.addcmul(times(S.at_q, own), self_scores, S.u)
    if options.output == "sum":
        return torch.addcmul(S.at_q + times(R.at_q, own), self_scores, R.u)
    gamma = R.gate
    assert gamma is not None
    return times(torch.addcmul(S.at_q, gamma, R.at_q), own).addcmul_(gamma * self_scores, R.u)


def output_backward(
    do: Tensor, S: Memory, R: Memory | None, own: Tensor | None, self_scores: Tensor, options: Options
) -> OutputGradients:
    """The gradients of each term of o."""
    d_S = dot(do, S.at_q)
    if R is None:
        d_self, d_own = dot(do, S.u), None if own is None else d_S
        return OutputGradients(times(do, own), None, do * self_scores, d_self, d_own, None)
    d_R, d_self = dot(do, R.at_q), dot(do, R.u)
    if options.output == "sum":
        d_own = None if own is None else d_R
        return OutputGradients(do, times(do, own), do * self_scores, d_self, d_own, None)
    gamma = R.gate
    assert gamma is not None
    d_gamma = times(d_R, own) + self_scores * d_self
    d_own = None if own is None else d_S + gamma * d_R
    d_R_at_q, d_u = do * times(gamma, own), do * (gamma * self_scores)
    return OutputGradients(times(do, own), d_R_at_q, d_u, gamma * d_self, d_own, d_gamma)
