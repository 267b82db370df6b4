"""The public operator: arguments, checks and the choice of a backend."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from rla_exp.kernels.inputs import Inputs, check_state, check_tensors, read_offsets
from rla_exp.kernels.options import DEFAULT_CLIP, BackendName, Options, Output, Residual, Rule, check_choice
from rla_exp.kernels.precision import without_autocast
from rla_exp.kernels.selection import select_backend, select_step
from rla_exp.kernels.state import State


def linear_attention(
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
) -> tuple[Tensor, State | None]:
    """Linear attention with an optional second state that is fed the residual of the first.

    Covers scalar-gated linear attention and the gated delta rule (residual "off") and their residual versions RLA and
    RDN (arXiv 2509.25223). For each head, with a_t = exp(g_t), b_t = beta_t, y_t = gamma_t and d_v x d_k states:

        rule "additive":  S_t = a_t S_{t-1} + b_t v_t k_t^T
        rule "delta":     S_t = a_t S_{t-1} (I - b_t k_t k_t^T) + b_t v_t k_t^T
        residual "off":   o_t = S_t q_t
        residual "fit":   r_t = clip_[-c, c](v_t - S_{t-1} k_t); R_t is written like S_t, from r_t with y_t
        residual "value": R_t is written like S_t, from v_t with y_t (a control with the same state size)
        output "gated":   o_t = a_t S_{t-1} q_t + y_t R_t q_t
        output "sum":     o_t = S_{t-1} q_t + R_t q_t

    Args:
        q, k: [B, T, H, K], float16, bfloat16, float32 or float64.
        v: [B, T, H, V].
        g: [B, T, H], log of the decay, finite and <= 0 (its values are not checked); None: no decay.
        beta: [B, T, H] in [0, 1], with the delta rule up to 2 (not checked); None: 1.
        gamma: [B, T, H] in [0, 1] (not checked); required unless residual is "off", and refused then.
        rule: how both states are written.
        residual: what the second state R is fed.
        clip: the bound c > 0 on the entries of r, or None. Its gradient is torch.clamp's.
        output: how the two reads make o.
        decayed_prediction: beyond the paper: r_t = clip(v_t - a_t S_{t-1} k_t), the delta rule's own error.
        normalize_qk: divide q and k by sqrt(|x|^2 + 1e-6) first.
        scale: multiplies q (after normalize_qk); None: K ** -0.5.
        initial_state: State(S, R) of [B, H, K, V], float32 (float64 when the inputs are); None: zeros.
        output_final_state: return the state after the last token.
        cu_seqlens: [N + 1] int32 or int64, rising from 0 to T: B is 1 and the T axis packs N sequences (some may be
            empty). States are then [N, H, K, V]. On a GPU its values are waited for.
        backend: "recurrent" (the definition, token by token), "chunked" (PyTorch), "triton" (fused kernels: on a GPU,
            K and V in {32, 64, 96, 128, 256}, no float64), or "auto": "triton" where it can and passed its self-check.

    Returns:
        o [B, T, H, V] in v's dtype, and the final state (None unless output_final_state). Gradients flow to q, k, v, g,
        beta, gamma and the initial state, from o and from the final state.

    Raises:
        ValueError: an argument's type, shape, dtype, device, value or combination is wrong.
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
    inputs = checked_inputs(q, k, v, g, beta, gamma, options, initial_state, cu_seqlens)
    compute = select_backend(backend, inputs, options)
    # autocast would lower the precision of the states
    with without_autocast(q.device):
        o, state = compute(inputs, options)
    return o, state if output_final_state else None


def linear_attention_step(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor | None = None,
    beta: Tensor | None = None,
    gamma: Tensor | None = None,
    *,
    state: State,
    inplace: bool = False,
    rule: Rule,
    residual: Residual = "off",
    clip: float | None = DEFAULT_CLIP,
    output: Output = "gated",
    decayed_prediction: bool = False,
    normalize_qk: bool = False,
    scale: float | None = None,
    backend: BackendName = "auto",
) -> tuple[Tensor, State]:
    """One token of `linear_attention`, for decoding.

    Args:
        q, k: [B, H, K].
        v: [B, H, V].
        g, beta, gamma: [B, H].
        state: the state before the token, [B, H, K, V].
        inplace: write into the tensors of `state` and return it; never where a state is shared. Otherwise a new one.
        rule, residual, clip, output, decayed_prediction, normalize_qk, scale: as in `linear_attention`.
        backend: likewise, but the kernel of "triton" has any K and V up to 256, and no gradients: where they are needed
            "auto" takes PyTorch.

    Returns:
        o [B, H, V] in v's dtype, and the state after the token.

    Raises:
        ValueError: an argument's type, shape, dtype, device, value or combination is wrong.
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
    check_choice("inplace", inplace, (False, True))
    inputs = Inputs(q=q, k=k, v=v, g=g, beta=beta, gamma=gamma, initial_state=state)
    check_tensors(inputs, options, ("B",))
    check_state("state", state, inputs, options)
    compute = select_step(backend, inputs, options)
    with without_autocast(q.device):
        return compute(inputs, options, inplace=inplace)


def checked_inputs(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor | None,
    beta: Tensor | None,
    gamma: Tensor | None,
    options: Options,
    initial_state: State | None,
    cu_seqlens: Tensor | None,
) -> Inputs:
    """The tensors of a call to `linear_attention`; raises ValueError where one is wrong."""
    inputs = Inputs(q=q, k=k, v=v, g=g, beta=beta, gamma=gamma, initial_state=initial_state)
    check_tensors(inputs, options, ("B", "T"))
    if cu_seqlens is not None:
        inputs = replace(inputs, offsets=read_offsets(cu_seqlens, q))
    if initial_state is not None:
        check_state("initial_state", initial_state, inputs, options)
    return inputs
