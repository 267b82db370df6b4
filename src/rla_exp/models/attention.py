"""Softmax attention with rotary positions and grouped queries, the transformer's token mixer."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rla_exp.config.schema import ModelConfig
from rla_exp.models.cache import KeyValueCache
from rla_exp.models.rotary import apply_rotary
from rla_exp.models.sequence_layout import SequenceLayout


class Attention(nn.Module):
    """num_heads query heads share num_kv_heads keys and values (Ainslie et al., 2023, arXiv 2305.13245)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.num_heads, self.head_dim = config.num_heads, config.head_dim_k
        self.num_kv_heads = config.num_kv_heads or config.num_heads
        self.rope_base = config.rope_base
        heads = self.num_heads + 2 * self.num_kv_heads
        self.qkv_proj = nn.Linear(config.d_model, heads * self.head_dim, bias=False)
        self.out_proj = nn.Linear(self.num_heads * self.head_dim, config.d_model, bias=False)

    def forward(self, x: Tensor, layout: SequenceLayout, cache: KeyValueCache | None = None) -> Tensor:
        """x: [B, T, d_model]; returns the same shape. A cache is appended to in place."""
        qkv = self.qkv_proj(x).unflatten(-1, (-1, self.head_dim))  # [B, T, heads, D]
        qkv = qkv.transpose(1, 2)  # [B, heads, T, D]
        first_v = self.num_heads + self.num_kv_heads
        qk = apply_rotary(qkv[:, :first_v], layout.positions, self.rope_base)
        q, k, v = qk[:, : self.num_heads], qk[:, self.num_heads :], qkv[:, first_v:]
        rows = None
        if cache is not None and layout.cu_seqlens is not None:
            rows = layout.rows
            layout = rows.layout
            q, k, v = (rows.split(x) for x in (q, k, v))
        elif layout.cu_seqlens is not None:
            # attention costs the square of the row's length
            q, k, v = (_as_rows(x, layout.window) for x in (q, k, v))
        if cache is not None:
            k, v = cache.append(k, v, layout)
        mask = layout.attention_mask
        o = F.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, is_causal=mask is None and q.shape[2] > 1, enable_gqa=True
        )
        o = o if rows is None else rows.merge(o)
        out: Tensor = self.out_proj(o.transpose(1, 2).reshape(*x.shape[:2], -1))
        return out

    def new_cache(self, batch_size: int, *, device: torch.device, dtype: torch.dtype) -> KeyValueCache:
        empty = torch.empty(batch_size, self.num_kv_heads, 0, self.head_dim, device=device, dtype=dtype)
        return KeyValueCache(empty, empty, 0)

    def state_bytes(self, length: int) -> int:
        """Keys and values of `length` tokens of one sequence in float32."""
        return 2 * length * self.num_kv_heads * self.head_dim * 4


def _as_rows(x: Tensor, window: int) -> Tensor:
    """[1, heads, T, D] -> [T / window, heads, window, D]."""
    _, heads, _, head_dim = x.shape
    return x.reshape(heads, -1, window, head_dim).transpose(0, 1)
