"""What the stability figures are made of: sizes of the residual and of the states."""

from __future__ import annotations

from typing import NamedTuple, get_args

import torch
from torch import Tensor

from rla_exp.kernels.api import checked_inputs
from rla_exp.kernels.chunked import chunked_with_error
from rla_exp.kernels.options import DEFAULT_CLIP, BackendName, Options, Output, Residual, Rule, check_choice
from rla_exp.kernels.precision import without_autocast
from rla_exp.kernels.state import State


class Diagnostics(NamedTuple):
    """Statistics of one call, one number a head [H]; None where the call has no such thing."""

    residual_norm: Tensor | None
    """Root mean square over the tokens of |r_t|, the L2 norm after the clip; None unless residual is "fit"."""
    share_clipped: Tensor | None
    """Share of r's entries beyond the bound before the clip; 0 where clip is None; None unless residual is "fit"."""
    S_norm: Tensor
    """Frobenius norm of the final S, mean over the sequences."""
    R_norm: Tensor | None
    """The same of R; None where residual is "off"."""


@torch.no_grad()
def diagnose(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor | None = None,
    beta: Tensor | None = None,
    gamma: Tensor | None = None,
    *,
    rule: Rule,
    residual: Residual = "off",
    clip: float | None = DEFAULT_CLIP,
    output: Output = "gated",
    decayed_prediction: bool = False,
    normalize_qk: bool = False,
    scale: float | None = None,
    initial_state: State | None = None,
    output_final_state: bool = False,
    cu_seqlens: Tensor | None = None,
    backend: BackendName = "auto",
) -> Diagnostics:
    """Statistics of r, S and R in the call `linear_attention` with the same arguments; no gradients.

    Always computed by the chunked form: `backend` and `output_final_state` are taken so that the same arguments fit.

    Raises:
        ValueError: as `linear_attention`.
    """
    options = Options(
        rule=rule,
        residual=residual,
        clip=clip,
        output=output,
        decayed_prediction=decayed_prediction,
        normalize_qk=normalize_qk,
        scale=scale,
    )
    check_choice("output_final_state", output_final_state, (False, True))
    check_choice("backend", backend, get_args(BackendName))
    inputs = checked_inputs(q, k, v, g, beta, gamma, options, initial_state, cu_seqlens)
    with without_autocast(q.device):
        _, (S, R), error = chunked_with_error(inputs, options)
    residual_norm = share_clipped = None
    if error is not None:
        r = error if clip is None else error.clamp(-clip, clip)
        residual_norm = r.square().sum(-1).mean((0, 1)).sqrt()
        share_clipped = r.ne(error).to(r.dtype).mean((0, 1, 3))
    return Diagnostics(residual_norm, share_clipped, state_norm(S), None if R is None else state_norm(R))


def state_norm(S: Tensor) -> Tensor:
    """Frobenius norm of [N, H, K, V], mean over N: [H]."""
    return S.square().sum((-2, -1)).sqrt().mean(0)
