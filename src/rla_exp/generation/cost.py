"""What one more token costs, in time and memory, after ever more tokens."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from rla_exp.generation.decoding import EagerStep, decode
from rla_exp.generation.reading import read_on, read_prompts
from rla_exp.generation.sampling import Sampler, Sampling
from rla_exp.models import LanguageModel


@dataclass(frozen=True)
class DecodingCost:
    """Of decoding after `tokens` tokens, on a CPU."""

    tokens: int
    milliseconds: float
    """CPU time of a token: the 20th percentile of the last ones, for whatever else runs on the machine slows some."""
    cache_bytes: int
    """Of what is carried from token to token."""
    resident_bytes: int | None
    """Of the whole process; None where the system does not tell (it is Linux that does)."""


def decoding_costs(
    model: LanguageModel, lengths: Sequence[int], *, window: int = 1000, seed: int = 0
) -> Iterator[DecodingCost]:
    """The cost at each of the ascending lengths, over the `window` tokens that lead to it.

    A linear model writes every token up to the last length, drawn by the seed. A transformer, for which that would take
    long, reads random tokens up to each window in the parallel form.
    """
    state = read_prompts(model, [[0]])
    sampler = Sampler(Sampling(temperature=1.0, seed=seed), [0])
    random = torch.Generator().manual_seed(seed)
    for length in lengths:
        before = length - window
        if model.config.mixer == "attention" and before > state.cache.length:
            missing = before - state.cache.length
            read_on(model, state, torch.randint(model.vocab_size, (1, missing), generator=random))
        steps = decode(EagerStep(model, state.cache), state, sampler, model.vocab_size)
        # the first token is chosen before anything is written; then each moves the state on by one
        for _ in islice(steps, 1 + before - state.cache.length):
            pass
        yield DecodingCost(length, _milliseconds(steps, window), state.cache.num_bytes(), _resident_bytes())


def _milliseconds(steps: Iterator[object], count: int) -> float:
    milliseconds = []
    started = time.process_time()
    for _ in islice(steps, count):
        milliseconds.append(1e3 * (time.process_time() - started))
        started = time.process_time()
    return round(float(np.percentile(milliseconds, 20)), 4)


def _resident_bytes() -> int | None:
    try:
        pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    except OSError:
        return None
    return int(pages) * os.sysconf("SC_PAGE_SIZE")
