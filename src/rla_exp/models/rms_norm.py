"""RMSNorm in float32, with a gain (Zhang and Sennrich, 2019, arXiv 1910.07467)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from rla_exp.models.gates import at_least_float32


class RMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps) * weight over the last axis; computed in float32, returned in x's dtype."""

    def __init__(self, dim: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.empty(dim))

    def initial_value(self, _name: str, _generator: Generator) -> Tensor:
        return torch.ones(self.weight.shape, device="cpu")

    def forward(self, x: Tensor) -> Tensor:
        wide = at_least_float32(x)
        return F.rms_norm(wide, self.weight.shape, self.weight.to(wide.dtype), self.eps).to(x.dtype)
