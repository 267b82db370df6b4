"""Reading prompts of different lengths into decoding states, side by side and without padding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from rla_exp.errors import RunError
from rla_exp.models import Cache, LanguageModel

# tokens that one call reads, which bounds the memory of a long prompt: of all rows, and of a row whose attention needs
# a mask as long as everything before
READ_AT_ONCE = 2**15
READ_AT_ONCE_MASKED = 2**10
# tokens of every row, from which on a call on them alone costs less than packing them with the rest
_MIN_EVEN = 128
# the operator's chunks, which the even part fills
_CHUNK = 64

LAST_KEPT = 8
"""Tokens before a text that a tokenizer's spaces may depend on."""


@dataclass
class DecodingState:
    """What the model knows after some tokens, and what it expects next."""

    cache: Cache
    logits: Tensor
    """[B, vocab_size] of the token that comes next."""
    seen: Tensor
    """[B, vocab_size] bool: the tokens that have stood before, for the repetition penalty."""
    last: Tensor
    """[B, LAST_KEPT] the last tokens that were read, for the text that follows; -1 where there were fewer."""

    def select(self, rows: Tensor) -> DecodingState:
        """A copy whose row i is row rows[i] of this; rows: [n] integers, any n, repeated ones too."""
        return DecodingState(self.cache.select(rows), self.logits[rows], self.seen[rows], self.last[rows])


@torch.no_grad()
def read_prompts(
    model: LanguageModel, prompts: Sequence[Sequence[int]], after: DecodingState | None = None
) -> DecodingState:
    """Read every prompt with the parallel form of the operator; row i of the state is prompt i's.

    All rows are read together to the end of the shortest prompt where that is far, and what is left is packed, each
    row after its own state.

    Args:
        prompts: tokens; none may be empty unless `after` is given.
        after: a state of one row that every prompt goes on from; it is not changed.

    Raises:
        RunError: the model's logits are not finite.
    """
    device = model.embedding.weight.device
    start = empty_state(model) if after is None else after
    state = start.select(torch.zeros(len(prompts), dtype=torch.int64, device=device))
    rows = [torch.tensor(list(prompt), dtype=torch.int64) for prompt in prompts]
    lengths = [len(row) for row in rows]
    even = num_even(min(lengths), max(lengths))
    read_on(model, state, torch.stack([row[:even] for row in rows]).to(device))
    at_once = _tokens_at_once(model, len(rows))
    for first in range(even, max(lengths), at_once):
        _read_packed(model, state, [row[first : first + at_once] for row in rows])
    if not bool(state.logits.isfinite().all()):
        raise RunError("the model's logits are not finite: its parameters are damaged or its training diverged")
    return state


def empty_state(model: LanguageModel) -> DecodingState:
    """One row that has read nothing; its logits stand for no token."""
    nothing = model.embedding.weight.new_zeros(1, model.vocab_size)
    last = torch.full((1, LAST_KEPT), -1, dtype=torch.int64, device=nothing.device)
    return DecodingState(model.new_cache(1), nothing, nothing.bool(), last)


def num_even(shortest: int, longest: int) -> int:
    """How many tokens rows of these lengths are best read side by side, before what is left is packed."""
    if shortest == longest:
        return shortest
    return shortest // _CHUNK * _CHUNK if shortest >= _MIN_EVEN else 0


@torch.no_grad()
def read_on(model: LanguageModel, state: DecodingState, tokens: Tensor) -> None:
    """Move the state on, in place, by tokens [B, T]; by none where T = 0."""
    for part in torch.split(tokens, _tokens_at_once(model, len(tokens)), dim=1):
        if part.numel():
            hidden = model.hidden(part, cache=state.cache)
            state.logits = model.head(hidden[:, -1])
    state.seen.scatter_(1, tokens, True)
    state.last = torch.cat([state.last, tokens], dim=1)[:, -LAST_KEPT:]


def _read_packed(model: LanguageModel, state: DecodingState, parts: Sequence[Tensor]) -> None:
    """Move the state's rows on, in place, by as many tokens as each has; some may have none."""
    device = state.seen.device
    lengths = torch.tensor([len(part) for part in parts], device=device)
    offsets = F.pad(lengths.cumsum(0), (1, 0))
    tokens = torch.cat(list(parts)).to(device)
    hidden = model.hidden(tokens[None], cu_seqlens=offsets, cache=state.cache)[0]
    moved = lengths.nonzero().squeeze(1)
    state.logits = state.logits.index_copy(0, moved, model.head(hidden[offsets[moved + 1] - 1]))
    state.seen[torch.repeat_interleave(lengths), tokens] = True
    # places in a row's last tokens with its new ones behind them
    place = lengths[:, None] + torch.arange(LAST_KEPT, device=device)
    old = state.last.gather(1, place.clamp(max=LAST_KEPT - 1))
    new = tokens[(offsets[:-1, None] + place - LAST_KEPT).clamp(min=0)]
    state.last = torch.where(place < LAST_KEPT, old, new)


def _tokens_at_once(model: LanguageModel, num_rows: int) -> int:
    """Of each row."""
    length = max(1, READ_AT_ONCE // num_rows)
    return min(length, READ_AT_ONCE_MASKED) if model.config.mixer == "attention" else length
