"""Token after token from a state: the same work for each, however many there were before."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from rla_exp.generation.reading import DecodingState
from rla_exp.generation.sampling import Sampler
from rla_exp.models import Cache, LanguageModel

Step = Callable[[Tensor], Tensor]
"""Tokens [B] to the logits of those after them, [B, vocab_size], which are valid until the next call."""


class EagerStep:
    """The model's own step."""

    def __init__(self, model: LanguageModel, cache: Cache) -> None:
        """The cache is moved on in place."""
        self._model, self._cache = model, cache

    @torch.no_grad()
    def __call__(self, tokens: Tensor) -> Tensor:
        return self._model.head(self._model.hidden(tokens.unsqueeze(1), cache=self._cache)[:, -1])


def decode(step: Step, state: DecodingState, sampler: Sampler, vocab_size: int) -> Iterator[Tensor]:
    """Tokens [B] without end, on the model's device; the step moves the rows on that `state` tells of.

    Args:
        state: what the first token follows from; its `logits` and `seen` are moved on.
        vocab_size: tokens in [0, vocab_size) may be chosen; the model's own may be more.
    """
    while True:
        tokens = sampler(state.logits[:, :vocab_size], state.seen[:, :vocab_size])
        yield tokens
        state.seen.scatter_(1, tokens.unsqueeze(1), True)
        state.logits = step(tokens)
