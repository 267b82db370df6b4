"""Padding never reaches a model: rows are run as their real tokens, with rows of the same length."""

from __future__ import annotations

import torch
from torch import Tensor


def real_tokens(tokens: Tensor, attention_mask: Tensor | None, seen: int) -> Tensor | None:
    """Which tokens, [B, T], are no padding, bool [B, T]; None where all are.

    attention_mask: [B, seen + T], 0 at padding, of which the last T columns count.

    Raises:
        ValueError: another shape, or a row without a token.
    """
    batch_size, length = tokens.shape
    if attention_mask is None:
        return None
    if attention_mask.shape != (batch_size, seen + length):
        raise ValueError(
            f"attention_mask must be [{batch_size}, {seen + length}] for {length} tokens after {seen} in the cache, "
            f"got {list(attention_mask.shape)}"
        )
    real = attention_mask[:, seen:].to(tokens.device) != 0
    empty = (~real).all(dim=1).nonzero()
    if len(empty):
        raise ValueError(f"row {int(empty[0])} has no token, its attention_mask is 0 throughout")
    return None if bool(real.all()) else real


def rows_of_equal_length(tokens: Tensor, real: Tensor | None) -> list[Tensor]:
    """The rows of [B, T] in groups with equally many real tokens; each group in ascending order."""
    rows = torch.arange(len(tokens), device=tokens.device)
    if real is None:
        return [rows]
    lengths = real.sum(dim=1)
    return [rows[lengths == length] for length in sorted(set(lengths.tolist()))]
