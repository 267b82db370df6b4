"""Rotary position embedding (Su et al., 2021, arXiv 2104.09864): q and k turn by an angle that grows with position."""

from __future__ import annotations

import torch
from torch import Tensor


def apply_rotary(x: Tensor, positions: Tensor, base: float) -> Tensor:
    """Turn feature pairs (i, i + D/2) of x by positions * base^(-2i/D).

    x: [B, H, T, D] with D even; positions: [T], or [B, T]. Returns [B, H, T, D] in x's dtype. The angles are at least
    float32.
    """
    half = x.shape[-1] // 2
    compute = torch.promote_types(x.dtype, torch.float32)
    exponent = torch.arange(half, device=x.device, dtype=compute) / half
    angle = (positions.to(compute)[..., None] * base**-exponent).unsqueeze(-3)  # [1, T, D/2] or [B, 1, T, D/2]
    cos, sin = angle.cos(), angle.sin()
    first, second = x.to(compute).chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1).to(x.dtype)
