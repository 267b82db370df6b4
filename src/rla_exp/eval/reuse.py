"""What reading common beginnings once saves: the same requests with and without it."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from rla_exp.eval.scoring import Request, Score, Scorer
from rla_exp.models import LanguageModel


@dataclass(frozen=True)
class ReuseMeasurement:
    """Of one model and one kind of question."""

    seconds_reused: float
    """Process time, the least of the repetitions."""
    seconds_repeated: float
    """The same with every row read from its beginning."""
    largest_difference: float
    """Of the two, in nats a token."""

    @property
    def speedup(self) -> float:
        return self.seconds_repeated / self.seconds_reused


def choice_requests(
    vocab_size: int,
    *,
    num_questions: int,
    num_choices: int,
    context: int,
    continuation: int = 12,
    ratio: int | None = None,
    seed: int = 0,
) -> list[Request]:
    """Questions of random tokens, their lengths within a fifth of those given.

    Args:
        ratio: every question is at least so many times as long as each of its choices, which are at most a fifth
            shorter than that; instead of `continuation`.
    """
    rng = np.random.default_rng(seed)

    def tokens(shortest: int, longest: int) -> list[int]:
        return [int(t) for t in rng.integers(0, vocab_size, int(rng.integers(shortest, longest + 1)))]

    def about(length: int) -> tuple[int, int]:
        spread = max(1, length // 5)
        return length - spread, length + spread

    requests = []
    for _ in range(num_questions):
        prompt = tokens(*about(context))
        longest = None if ratio is None else max(1, len(prompt) // ratio)
        lengths = about(continuation) if longest is None else (-(-4 * longest // 5), longest)
        requests += [Request(prompt, tokens(*lengths)) for _ in range(num_choices)]
    return requests


def measure_reuse(
    model: LanguageModel, requests: list[Request], *, batch_size: int = 32, repetitions: int = 9
) -> ReuseMeasurement:
    """Score the requests both ways by turns, so that what else the machine does meets both."""
    seconds: dict[bool, list[float]] = {True: [], False: []}
    scores: dict[bool, list[Score]] = {}
    for _ in range(repetitions):
        for reuse in (True, False):
            scorer = Scorer(model, batch_size=batch_size, reuse=reuse)
            started = time.process_time()
            scores[reuse] = scorer.score(requests)
            seconds[reuse].append(time.process_time() - started)
    difference = max(
        abs(one.log_prob - other.log_prob) / len(request.continuation)
        for one, other, request in zip(scores[True], scores[False], requests, strict=True)
    )
    return ReuseMeasurement(min(seconds[True]), min(seconds[False]), difference)
