"""Reading prompts of different lengths into decoding states, side by side and without padding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rla_exp.errors import RunError
from rla_exp.models import Cache, LanguageModel

# tokens that one call reads, which bounds the memory of a long prompt: of all rows, and of a row whose attention needs
# a mask as long as everything before
READ_AT_ONCE = 2**15
READ_AT_ONCE_MASKED = 2**10


@dataclass
class DecodingState:
    """What the model knows after some tokens, and what it expects next."""

    cache: Cache
    logits: Tensor
    """[B, vocab_size] of the token that comes next."""
    seen: Tensor
    """[B, vocab_size] bool: the tokens that have stood before, for the repetition penalty."""

    def select(self, rows: Tensor) -> DecodingState:
        """A copy whose row i is row rows[i] of this; rows: [n] integers, any n, repeated ones too."""
        return DecodingState(self.cache.select(rows), self.logits[rows], self.seen[rows])


@dataclass
class RowGroup:
    """Prompts that are decoded together."""

    rows: list[int]
    """Which prompts they are."""
    state: DecodingState
    """Of these prompts, in this order."""


@torch.no_grad()
def read_prompts(
    model: LanguageModel, prompts: Sequence[Sequence[int]], after: DecodingState | None = None
) -> list[RowGroup]:
    """Read every prompt with the parallel form of the operator.

    All rows are read up to the end of the shortest prompt, which is then set aside, the others to the end of the next,
    and so on. Rows of a model without positions go on as one group, others as a group for each length.

    Args:
        prompts: tokens; none may be empty unless `after` is given.
        after: a state of one row that every prompt goes on from; it is not changed.

    Raises:
        RunError: the model's logits are not finite.
    """
    device = model.embedding.weight.device
    start = empty_state(model) if after is None else after
    # the longest first, so that those still to be read are the first rows
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]), reverse=True)
    state = start.select(torch.zeros(len(prompts), dtype=torch.int64, device=device))
    groups: list[RowGroup] = []
    position = 0
    for length in sorted({len(prompt) for prompt in prompts}):
        if length > position:
            tokens = torch.tensor([list(prompts[i][position:length]) for i in order], device=device)
            read_on(model, state, tokens)
            position = length
        longer = sum(len(prompts[i]) > length for i in order)
        rows = torch.arange(len(order), device=device)
        groups.append(RowGroup(order[longer:], state.select(rows[longer:])))
        if longer:
            state, order = state.select(rows[:longer]), order[:longer]
    if not all(bool(group.state.logits.isfinite().all()) for group in groups):
        raise RunError("the model's logits are not finite: its parameters are damaged or its training diverged")
    return [_joined(groups)] if len(groups) > 1 and not model.is_positional else groups


def empty_state(model: LanguageModel) -> DecodingState:
    """One row that has read nothing; its logits stand for no token."""
    nothing = torch.zeros(1, model.vocab_size, device=model.embedding.weight.device)
    return DecodingState(model.new_cache(1), nothing, nothing.bool())


@torch.no_grad()
def read_on(model: LanguageModel, state: DecodingState, tokens: Tensor) -> None:
    """Move the state on, in place, by tokens [B, T], T >= 1."""
    length = max(1, READ_AT_ONCE // len(tokens))
    if model.config.mixer == "attention":
        length = min(length, READ_AT_ONCE_MASKED)
    for part in torch.split(tokens, length, dim=1):
        hidden = model.hidden(part, cache=state.cache)
    state.logits = model.head(hidden[:, -1])
    state.seen.scatter_(1, tokens, True)


def _joined(groups: Sequence[RowGroup]) -> RowGroup:
    states = [group.state for group in groups]
    state = DecodingState(
        Cache.joined([state.cache for state in states]),
        torch.cat([state.logits for state in states]),
        torch.cat([state.seen for state in states]),
    )
    return RowGroup([row for group in groups for row in group.rows], state)
