"""One pre-norm block: x + mixer(norm(x)), then x + mlp(norm(x))."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from rla_exp.config.schema import ModelConfig
from rla_exp.models.attention import Attention
from rla_exp.models.cache import KeyValueCache, LinearCache
from rla_exp.models.linear_mixer import LinearMixer
from rla_exp.models.rms_norm import RMSNorm
from rla_exp.models.sequence_layout import SequenceLayout


class SwiGLU(nn.Module):
    """W_down (silu(W_gate x) * W_up x) (Shazeer, 2020, arXiv 2002.05202). [..., d_model] to the same."""

    def __init__(self, d_model: int, mlp_dim: int) -> None:
        super().__init__()
        self.gate_up_proj = nn.Linear(d_model, 2 * mlp_dim, bias=False)
        self.down_proj = nn.Linear(mlp_dim, d_model, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.gate_up_proj(x).chunk(2, dim=-1)
        down: Tensor = self.down_proj(F.silu(gate) * up)
        return down


class Block(nn.Module):
    """Token mixer and MLP; `mlp` is None where `mlp_dim` is null."""

    mixer: Attention | LinearMixer

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.mixer_norm = RMSNorm(config.d_model, config.norm_eps)
        self.mixer = Attention(config) if config.mixer == "attention" else LinearMixer(config)
        self.mlp_norm = None if config.mlp_dim is None else RMSNorm(config.d_model, config.norm_eps)
        self.mlp = None if config.mlp_dim is None else SwiGLU(config.d_model, config.mlp_dim)

    def forward(self, x: Tensor, layout: SequenceLayout, cache: LinearCache | KeyValueCache | None = None) -> Tensor:
        """x: [B, T, d_model], the residual stream; returns it with both updates added."""
        x = x + self.mixer(self.mixer_norm(x), layout, cache)
        if self.mlp is not None and self.mlp_norm is not None:
            x = x + self.mlp(self.mlp_norm(x))
        return x


def run_block(block: Block, x: Tensor, layout: SequenceLayout, cache: LinearCache | KeyValueCache | None) -> Tensor:
    """A call of a block: as a function of all blocks it is compiled once, not once for each."""
    out: Tensor = block(x, layout, cache)
    return out
