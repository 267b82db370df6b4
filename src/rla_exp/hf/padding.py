"""Padding never reaches a model: rows are run as their real tokens, packed one row after the other."""

from __future__ import annotations

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
