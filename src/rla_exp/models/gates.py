"""The gates of the linear mixer: one number a head and token, in float32 whatever the activations are.

Under autocast the projection W x is a product like any other, in bfloat16; what follows it is float32.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

# Mamba-2's ranges (Dao and Gu, 2024, arXiv 2405.21060): A uniform, the initial dt log-uniform
A_RANGE = (1.0, 16.0)
DT_RANGE = (1e-3, 1e-1)


def at_least_float32(x: Tensor) -> Tensor:
    """x in float32, or in float64 where it is that already."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


class SigmoidGate(nn.Module):
    """sigmoid(W x): beta and the dedicated gamma of the paper. x: [B, T, d_model]; returns [B, T, H]."""

    def __init__(self, d_model: int, num_heads: int) -> None:
        super().__init__()
        self.proj = nn.Linear(d_model, num_heads, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(at_least_float32(self.proj(x)))


class LearnedDecay(nn.Module):
    """a = exp(-A dt) with dt = softplus(W x + dt_bias) and A = exp(A_log) > 0, Mamba-2's reparameterization.

    A_log and dt_bias: [H]. At the start A is uniform in A_RANGE and softplus(dt_bias) log-uniform in DT_RANGE.
    """

    def __init__(self, d_model: int, num_heads: int) -> None:
        super().__init__()
        self.proj = nn.Linear(d_model, num_heads, bias=False)
        self.A_log = nn.Parameter(torch.empty(num_heads))
        self.dt_bias = nn.Parameter(torch.empty(num_heads))

    def initial_value(self, name: str, generator: Generator) -> Tensor:
        uniform = torch.rand(self.A_log.shape, device="cpu", generator=generator)
        if name == "A_log":
            low, high = A_RANGE
            return torch.log(low + (high - low) * uniform)
        low, high = map(math.log, DT_RANGE)
        dt = torch.exp(low + (high - low) * uniform)
        # softplus's inverse: softplus(dt + log(1 - exp(-dt))) = dt
        return dt + torch.log(-torch.expm1(-dt))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x: [B, T, d_model]. Returns (g, dt), both [B, T, H]: g = log a <= 0."""
        dt = F.softplus(at_least_float32(self.proj(x)) + at_least_float32(self.dt_bias))
        return -torch.exp(at_least_float32(self.A_log)) * dt, dt


def fixed_log_decay(x: Tensor, num_heads: int) -> Tensor:
    """RetNet's decay a = 1 - 2^(-5-h) of head h = 0, 1, ... (Sun et al., 2023, arXiv 2307.08621), for every token.

    x: [B, T, ...] tells size and device. Returns g = log a, [B, T, H].
    """
    compute = torch.promote_types(x.dtype, torch.float32)
    head = torch.arange(num_heads, device=x.device, dtype=compute)
    return torch.log1p(-torch.exp2(-5 - head)).expand(x.shape[0], x.shape[1], num_heads)


class Skip(nn.Module):
    """Mamba-2's skip: o + D v with one D a head, 1 at the start."""

    def __init__(self, num_heads: int) -> None:
        super().__init__()
        self.D = nn.Parameter(torch.empty(num_heads))

    def initial_value(self, _name: str, _generator: Generator) -> Tensor:
        return torch.ones(self.D.shape, device="cpu")

    def forward(self, o: Tensor, v: Tensor) -> Tensor:
        """o, v: [B, T, H, V]."""
        return torch.addcmul(o, v, self.D[:, None].to(o.dtype))
