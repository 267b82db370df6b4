"""From logits to the next token: the likeliest, or one that is drawn, for each row by random numbers of its own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from rla_exp.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How the next token is chosen; raises ConfigError with every setting that cannot be or would do nothing.

    The order is that of `transformers`: repetition penalty, temperature, top-k, then top-p of what is left.
    """

    temperature: float = 0.0
    """Divides the logits; 0: greedy, always the likeliest token."""
    top_k: int | None = None
    """Draw from the k likeliest tokens; None: from all."""
    top_p: float | None = None
    """Draw from the likeliest tokens that together have probability top_p or just more; None: from all."""
    repetition_penalty: float = 1.0
    """What stood before gets its logit divided by this where positive, multiplied where negative (Keskar et al., 2019,
    arXiv 1909.05858); 1: no penalty."""
    seed: int = 0
    """Of the random numbers. Row i's follow from the seed and i alone, on every device."""

    def __post_init__(self) -> None:
        problems = []
        if not (math.isfinite(self.temperature) and self.temperature >= 0):
            problems.append(f"temperature={self.temperature}: must be 0 (greedy) or a positive number")
        if self.top_k is not None and self.top_k < 1:
            problems.append(f"top_k={self.top_k}: must be a whole number from 1 on")
        if self.top_p is not None and not 0 < self.top_p < 1:
            problems.append(f"top_p={self.top_p}: must lie between 0 and 1; leave it out to draw from all tokens")
        if not (math.isfinite(self.repetition_penalty) and self.repetition_penalty > 0):
            problems.append(f"repetition_penalty={self.repetition_penalty}: must be positive; 1 is no penalty")
        if self.seed < 0:
            problems.append(f"seed={self.seed}: must be a whole number from 0 on")
        if self.temperature == 0:
            problems += [
                f"{name}={getattr(self, name)}: has no effect with temperature=0, which is greedy; set temperature too"
                for name in ("top_k", "top_p")
                if getattr(self, name) is not None
            ]
        if problems:
            raise ConfigError(problems)


class Sampler:
    """Chooses tokens for the rows of a batch, step by step."""

    def __init__(self, sampling: Sampling, rows: Sequence[int]) -> None:
        """rows: the number of each row of the logits, which its random numbers follow from."""
        self.sampling = sampling
        self._random = [np.random.default_rng((sampling.seed, row)) for row in rows]

    def __call__(self, logits: Tensor, seen: Tensor) -> Tensor:
        """logits: [B, V]. seen: [B, V] bool, the tokens that stand before. Returns [B] tokens."""
        sampling = self.sampling
        logits = logits.float()
        if sampling.repetition_penalty != 1:
            penalty = sampling.repetition_penalty
            logits = torch.where(seen, torch.where(logits > 0, logits / penalty, logits * penalty), logits)
        if sampling.temperature == 0:
            return logits.argmax(-1)
        # the likeliest first; among equals the lower token
        p, tokens = (logits / sampling.temperature).softmax(-1).sort(dim=-1, descending=True, stable=True)
        if sampling.top_k is not None:
            p = p[:, : sampling.top_k]
            p = p / p.sum(-1, keepdim=True)
        if sampling.top_p is not None:
            # the first has nothing before it and always stays
            p = p.masked_fill(p.cumsum(-1) - p >= sampling.top_p, 0)
        return tokens.gather(1, self._draw(p)).squeeze(1)

    def _draw(self, p: Tensor) -> Tensor:
        """A place in each row of p [B, n], as likely as p says; [B, 1]."""
        uniform = torch.tensor([[random.random()] for random in self._random], dtype=torch.float32).to(p.device)
        cumulative = p.cumsum(-1)
        place = torch.searchsorted(cumulative, uniform * cumulative[:, -1:], right=True)
        # rounding may lead beyond the last one that can be drawn
        last = (p > 0).sum(-1, keepdim=True) - 1
        return torch.minimum(place, last)
