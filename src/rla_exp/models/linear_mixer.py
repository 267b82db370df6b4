"""The linear mixer: every recurrent backbone is one setting of it over the operator of `rla_exp.kernels`."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rla_exp.config.schema import ModelConfig
from rla_exp.kernels import State, linear_attention, linear_attention_step
from rla_exp.models.cache import LinearCache, zero_state
from rla_exp.models.gates import LearnedDecay, SigmoidGate, Skip, fixed_log_decay
from rla_exp.models.rms_norm import RMSNorm
from rla_exp.models.rotary import apply_rotary
from rla_exp.models.sequence_layout import SequenceLayout
from rla_exp.models.short_convolution import ShortConvolution


class LinearMixer(nn.Module):
    """x -> q, k, v (convolution, SiLU, L2 or rotary) and gates -> operator -> norm of each head, gate, projection."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        d_model, num_heads = config.d_model, config.num_heads
        # features of q, k and v on the last axis
        self.widths = (num_heads * config.head_dim_k, num_heads * config.head_dim_k, num_heads * config.head_dim_v)
        self.qkv_proj = nn.Linear(d_model, sum(self.widths), bias=False)
        self.conv = None if config.conv_size is None else ShortConvolution(sum(self.widths), config.conv_size)
        self.decay = LearnedDecay(d_model, num_heads) if config.decay == "learned" else None
        self.beta = SigmoidGate(d_model, num_heads) if config.write == "beta" else None
        self.gamma = SigmoidGate(d_model, num_heads) if config.gamma == "dedicated" else None
        self.skip = Skip(num_heads) if config.skip else None
        self.norm = RMSNorm(config.head_dim_v, config.norm_eps)
        self.gate_proj = nn.Linear(d_model, self.widths[2], bias=False) if config.output_gate else None
        self.out_proj = nn.Linear(self.widths[2], d_model, bias=False)
        self.options = _operator_options(config)

    def forward(self, x: Tensor, layout: SequenceLayout, cache: LinearCache | None = None) -> Tensor:
        """x: [B, T, d_model]; returns the same shape. A cache is moved on in place."""
        q, k, v = self._qkv(x, layout, None if cache is None else cache.window)
        tensors = self._operator_tensors(x, q, k, v)
        if cache is None:
            o, _ = linear_attention(**tensors, **self.options, cu_seqlens=layout.cu_seqlens)
        elif x.shape[1] == 1 and layout.cu_seqlens is None:
            token: dict[str, Any] = {
                name: None if value is None else value.squeeze(1) for name, value in tensors.items()
            }
            # in place only where autograd does not need the state that was
            inplace = not torch.is_grad_enabled()
            o, state = linear_attention_step(**token, **self.options, state=cache.state, inplace=inplace)
            o = o.unsqueeze(1)
            cache.state = _detached(state)
        else:
            o, last = linear_attention(
                **tensors,
                **self.options,
                initial_state=cache.state,
                output_final_state=True,
                cu_seqlens=layout.cu_seqlens,
            )
            assert last is not None
            cache.state = _detached(last)
        if self.skip is not None:
            o = self.skip(o, v)
        o = self.norm(o).flatten(2)
        if self.gate_proj is not None:
            o = o * F.silu(self.gate_proj(x))
        out: Tensor = self.out_proj(o)
        return out

    def operator_call(self, x: Tensor, layout: SequenceLayout) -> dict[str, Any]:
        """The arguments of `linear_attention` for x: [B, T, d_model], from zero states."""
        q, k, v = self._qkv(x, layout, None)
        return {**self._operator_tensors(x, q, k, v), **self.options, "cu_seqlens": layout.cu_seqlens}

    def new_cache(self, batch_size: int, *, device: torch.device, dtype: torch.dtype) -> LinearCache:
        config = self.config
        shape = (batch_size, config.num_heads, config.head_dim_k, config.head_dim_v)
        state = zero_state(
            shape,
            two=config.residual != "off",
            device=device,
            dtype=torch.promote_types(dtype, torch.float32),
        )
        if self.conv is None:
            return LinearCache(state, None)
        window = torch.zeros(batch_size, self.conv.kernel - 1, sum(self.widths), device=device, dtype=dtype)
        return LinearCache(state, window)

    def state_bytes(self, _length: int) -> int:
        """S (and R) and the convolution's window of one sequence in float32, whatever its length."""
        config = self.config
        states = 1 if config.residual == "off" else 2
        state = states * config.num_heads * config.head_dim_k * config.head_dim_v
        window = 0 if self.conv is None else (self.conv.kernel - 1) * sum(self.widths)
        return 4 * (state + window)

    def _qkv(self, x: Tensor, layout: SequenceLayout, window: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """q, k: [B, T, H, K]; v: [B, T, H, V]; before the L2 normalization, which the operator does."""
        config = self.config
        qkv = self.qkv_proj(x)
        # one kernel does both on a GPU
        together = self.conv is not None and config.qk_activation == config.v_activation == "silu"
        if self.conv is not None:
            qkv = self.conv(qkv, layout, window, silu=together, fused=config.backend in ("auto", "triton"))
        qk, v = qkv.split([2 * self.widths[0], self.widths[2]], dim=-1)
        if config.qk_activation == "silu" and not together:
            qk = F.silu(qk)
        if config.v_activation == "silu" and not together:
            v = F.silu(v)
        qk = qk.unflatten(-1, (2 * config.num_heads, config.head_dim_k))
        if config.rotary:
            qk = apply_rotary(qk.transpose(1, 2), layout.positions, config.rope_base).transpose(1, 2)
        q, k = qk.chunk(2, dim=2)
        return q, k, v.unflatten(-1, (config.num_heads, config.head_dim_v))

    def _operator_tensors(self, x: Tensor, q: Tensor, k: Tensor, v: Tensor) -> dict[str, Any]:
        """q, k, v and the gates g, beta, gamma [B, T, H] as the operator takes them."""
        g = dt = None
        if self.decay is not None:
            g, dt = self.decay(x)
        elif self.config.decay == "fixed":
            g = fixed_log_decay(x, self.config.num_heads)
        if self.config.write == "dt":
            assert dt is not None
            v = (dt.unsqueeze(-1) * v).to(v.dtype)
        beta = None if self.beta is None else self.beta(x)
        gamma = beta if self.config.gamma == "tied" else None
        if self.gamma is not None:
            gamma = self.gamma(x)
        elif self.config.gamma == "one":
            gamma = torch.ones(q.shape[:3], device=x.device, dtype=torch.promote_types(x.dtype, torch.float32))
        return {"q": q, "k": k, "v": v, "g": g, "beta": beta, "gamma": gamma}


def _operator_options(config: ModelConfig) -> dict[str, Any]:
    """The operator's options; those that need a residual only where there is one, for it refuses the others."""
    options: dict[str, Any] = {
        "rule": config.rule,
        "residual": config.residual,
        "normalize_qk": config.qk_norm == "l2",
        "backend": config.backend,
    }
    if config.skip:
        # what D v is added to must not be scaled down; Mamba-2's q is not, and elsewhere the norm undoes any scale
        options["scale"] = 1.0
    if config.residual != "off":
        options["output"] = config.output
    if config.residual == "fit":
        options |= {"clip": config.clip, "decayed_prediction": config.decayed_prediction}
    return options


def _detached(state: State) -> State:
    return State(state.S.detach(), None if state.R is None else state.R.detach())
