"""Sampling: the right tokens, as often as their probabilities say, repeatably."""

from __future__ import annotations

import pytest
import torch

from rla_exp.errors import ConfigError
from rla_exp.generation.sampling import Sampler, Sampling

P = torch.tensor([0.1, 0.4, 0.05, 0.3, 0.15])
UNSEEN = torch.zeros(1, 5, dtype=torch.bool)


def frequencies(sampling: Sampling, p: torch.Tensor = P, draws: int = 20_000) -> torch.Tensor:
    """How often each token comes, drawing for many rows at once."""
    logits = p.log().expand(draws, -1)
    chosen = Sampler(sampling, range(draws))(logits, UNSEEN.expand(draws, -1))
    return torch.bincount(chosen, minlength=len(p)) / draws


def test_greedy_takes_the_likeliest():
    assert Sampler(Sampling(), [0])(P.log()[None], UNSEEN).tolist() == [1]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, [0.1, 0.4, 0.05, 0.3, 0.15]),
        ({"top_k": 2}, [0, 4 / 7, 0, 3 / 7, 0]),
        ({"top_k": 9}, [0.1, 0.4, 0.05, 0.3, 0.15]),
        # 0.4 + 0.3 is not enough, so a third comes in
        ({"top_p": 0.75}, [0, 0.4 / 0.85, 0, 0.3 / 0.85, 0.15 / 0.85]),
        ({"top_p": 0.01}, [0, 1, 0, 0, 0]),
        # of the three left by top_k, 0.4 / 0.85 = 0.47 is enough for 0.45
        ({"top_k": 3, "top_p": 0.45}, [0, 1, 0, 0, 0]),
        ({"temperature": 0.5}, (P**2 / (P**2).sum()).tolist()),
        ({"temperature": 0.01}, [0, 1, 0, 0, 0]),
    ],
)
def test_tokens_come_as_often_as_they_should(settings, expected):
    found = frequencies(Sampling(**{"temperature": 1.0, **settings}))
    # five standard deviations of a share of 20,000
    assert found == pytest.approx(expected, abs=0.018)
    assert all((share == 0) == (wanted == 0) for share, wanted in zip(found.tolist(), expected, strict=True))


def test_the_repetition_penalty_divides_and_multiplies():
    logits = torch.tensor([[2.0, 1.9, -1.0, -1.5]])
    seen = torch.tensor([[True, False, True, False]])
    # 2.0 / 1.1 = 1.82 falls behind 1.9
    assert Sampler(Sampling(repetition_penalty=1.1), [0])(logits, seen).tolist() == [1]
    # -1.0 * 2 = -2.0 falls behind -1.5
    assert Sampler(Sampling(repetition_penalty=2.0), [0])(logits[:, 2:], seen[:, 2:]).tolist() == [1]


def test_a_seed_repeats_and_rows_differ():
    flat = torch.zeros(1, 1000)
    none = torch.zeros(1, 1000, dtype=torch.bool)

    def drawn(seed: int, row: int) -> list[int]:
        sampler = Sampler(Sampling(temperature=1.0, seed=seed), [row])
        return [int(sampler(flat, none)) for _ in range(4)]

    assert drawn(0, 0) == drawn(0, 0)
    assert len({tuple(drawn(*pair)) for pair in [(0, 0), (0, 1), (1, 0), (1, 1)]}) == 4
    both = Sampler(Sampling(temperature=1.0, seed=3), [0, 5])
    assert both(flat.expand(2, -1), none.expand(2, -1)).tolist() == [drawn(3, 0)[0], drawn(3, 5)[0]]


def test_a_token_of_no_probability_is_never_drawn():
    found = frequencies(Sampling(temperature=1.0), torch.tensor([0.0, 0.5, 0.5, 0.0]))
    assert found[[0, 3]].tolist() == [0, 0]


def test_every_problem_is_said():
    with pytest.raises(ConfigError) as error:
        Sampling(temperature=-1.0, top_k=0, top_p=1.0, repetition_penalty=0.0, seed=-1)
    assert [problem.split("=")[0] for problem in error.value.problems] == [
        "temperature",
        "top_k",
        "top_p",
        "repetition_penalty",
        "seed",
    ]
    with pytest.raises(ConfigError, match=r"top_k=5: has no effect with temperature=0"):
        Sampling(top_k=5)
