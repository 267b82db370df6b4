"""Scores equal those of whole forward passes, for every model, batch size and sharing of prefixes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from rla_exp.cli.measure_reuse import main
from rla_exp.config import compose
from rla_exp.eval.prefix_tree import Segment, prefix_tree
from rla_exp.eval.reuse import choice_requests, measure_reuse
from rla_exp.eval.scoring import Request, Score, Scorer
from rla_exp.models import LanguageModel, build_model

MODELS = ["transformer", "linear_attention", "retnet", "mamba2", "delta_net", "gated_delta_net", "rla", "rdn"]
VOCAB = 61


def make_model(name: str) -> LanguageModel:
    config = compose([f"model={name}", "size=tiny", "model.num_layers=2"]).config
    return build_model(config.model, VOCAB, seed=1).eval()


def make_requests() -> list[Request]:
    """Questions with four choices, half of them after a common few-shot prompt, in a random order; and a document."""
    rng = np.random.default_rng(0)

    def tokens(count: int) -> list[int]:
        return [int(token) for token in rng.integers(0, VOCAB, count)]

    shots = tokens(40)
    requests = []
    for question in range(6):
        context = [*(shots if question % 2 else []), *tokens(int(rng.integers(1, 70)))]
        # some choices are empty, of one token, or repeat each other
        requests += [Request(context, tokens(int(length))) for length in rng.integers(0, 12, 3)]
        requests.append(requests[-1])
    requests.append(Request([0], tokens(200)))
    order = rng.permutation(len(requests))
    return [requests[index] for index in order]


@torch.no_grad()
def whole(model: LanguageModel, requests: Sequence[Request]) -> list[Score]:
    """By one forward pass a request."""
    scores = []
    for context, continuation in requests:
        row = torch.tensor([[*context, *continuation]], device=model.embedding.weight.device)
        log_probs = model(row[:, :-1])[0, len(context) - 1 :].double().log_softmax(-1)
        target = torch.tensor(continuation, dtype=torch.int64, device=row.device)
        picked = log_probs.gather(1, target[:, None])
        scores.append(Score(picked.sum().item(), bool((log_probs.argmax(-1) == target).all())))
    return scores


@pytest.mark.parametrize("name", MODELS)
def test_scores_are_those_of_whole_passes(name: str) -> None:
    model, requests = make_model(name), make_requests()
    expected = whole(model, requests)
    for batch_size, reuse in ((5, True), (64, True), (64, False)):
        # parts of few tokens, so that the state passes from one to the next
        found = Scorer(model, batch_size=batch_size, max_tokens=96, reuse=reuse).score(requests)
        for score, reference, request in zip(found, expected, requests, strict=True):
            # a token
            assert score.log_prob == pytest.approx(reference.log_prob, abs=1e-5 * max(1, len(request.continuation)))
            assert score.is_greedy == reference.is_greedy


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("name", MODELS)
def test_scores_are_those_of_whole_passes_on_a_gpu(name: str) -> None:
    """The fused kernels' float32 is less exact than PyTorch's on a CPU; docs/kernels.md has its bounds."""
    model, requests = make_model(name).cuda(), make_requests()
    expected = whole(model, requests)
    for batch_size, reuse in ((5, True), (64, True), (64, False)):
        found = Scorer(model, batch_size=batch_size, max_tokens=96, reuse=reuse).score(requests)
        for score, reference, request in zip(found, expected, requests, strict=True):
            assert score.log_prob == pytest.approx(reference.log_prob, abs=1e-3 * max(1, len(request.continuation)))


def test_greedy_continuations_are_found() -> None:
    model = make_model("rdn")
    context, row = [3, 1, 4], []
    with torch.no_grad():
        for _ in range(5):
            row.append(int(model(torch.tensor([[*context, *row]]))[0, -1].argmax()))
    other = [*row[:-1], (row[-1] + 1) % VOCAB]
    scores = Scorer(model).score([Request(context, row), Request(context, other)])
    assert [score.is_greedy for score in scores] == [True, False]


@pytest.mark.parametrize("reuse", [True, False])
def test_progress_counts_every_request(reuse: bool) -> None:
    counted: list[int] = []
    # one whose tokens are the beginning of another's, too
    requests = [*make_requests(), Request([1], list(range(20))), Request([1], list(range(10)))]
    Scorer(make_model("rla"), batch_size=8, reuse=reuse).score(requests, counted.append)
    assert sum(counted) == sum(bool(request.continuation) for request in requests)


def joined(segments: Sequence[Segment], before: Sequence[int] = ()) -> dict[int, list[int]]:
    """Row -> its tokens, from the tree."""
    rows = {}
    for segment in segments:
        tokens = [*before, *segment.tokens.tolist()]
        assert segment.start == len(before)
        rows.update(dict.fromkeys(segment.rows, tokens))
        rows.update(joined(segment.children, tokens))
    return rows


def count(segments: Sequence[Segment]) -> int:
    return sum(len(segment.tokens) + count(segment.children) for segment in segments)


def test_common_beginnings_stand_once() -> None:
    head = list(range(20))
    rows = [np.array(row) for row in ([*head, 7], [*head, 9, 9], head, [*head, *head, 1], [*head, *head, 2], [5])]
    tree = prefix_tree(rows, min_shared=8)
    assert joined(tree) == {index: row.tolist() for index, row in enumerate(rows)}
    # the head, 7, 9 9, the head again, 1, 2, and 5
    assert count(tree) == 20 + 1 + 2 + 20 + 1 + 1 + 1
    assert count(prefix_tree(rows, min_shared=None)) == sum(map(len, rows))


def test_short_common_beginnings_are_not_worth_a_copy() -> None:
    rows = [np.array([1, 2, 3, token]) for token in range(4)]
    assert [segment.rows for segment in prefix_tree(rows, min_shared=8)] == [[0], [1], [2], [3]]


@pytest.mark.parametrize("name", MODELS)
def test_long_questions_are_read_side_by_side(name: str) -> None:
    """First up to a full chunk, then packed; choices of several questions go together."""
    model = make_model(name)
    requests = choice_requests(VOCAB, num_questions=4, num_choices=3, context=200, continuation=6)
    for score, reference in zip(Scorer(model).score(requests), whole(model, requests), strict=True):
        assert score.log_prob == pytest.approx(reference.log_prob, abs=4e-5)


@pytest.mark.parametrize("name", ["rdn", "transformer"])
def test_few_calls_are_made(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, calls = make_model(name), []
    original = model.hidden

    def hidden(tokens: torch.Tensor, **given: Any) -> torch.Tensor:
        calls.append(tokens.shape)
        return original(tokens, **given)

    monkeypatch.setattr(model, "hidden", hidden)
    requests = choice_requests(VOCAB, num_questions=16, num_choices=4, context=200, continuation=6)
    Scorer(model, batch_size=16).score(requests)
    # 16 questions to a full chunk, what is left of them, and all 64 choices
    assert [shape[0] for shape in calls] == [16, 1, 1]


def test_reuse_changes_no_score_and_reads_less() -> None:
    model = make_model("rdn")
    requests = choice_requests(VOCAB, num_questions=3, num_choices=4, context=60, continuation=6)
    assert measure_reuse(model, requests, repetitions=1).largest_difference < 1e-5
    rows = [np.array([*request.context, *request.continuation[:-1]]) for request in requests]
    # four times the question without reuse
    assert count(prefix_tree(rows)) < 0.4 * count(prefix_tree(rows, min_shared=None))


def test_questions_are_so_many_times_as_long_as_their_choices() -> None:
    requests = choice_requests(VOCAB, num_questions=20, num_choices=4, context=200, ratio=10)
    ratios = [len(request.context) / len(request.continuation) for request in requests]
    assert min(ratios) >= 10
    assert 12 < max(ratios) < 14


def test_two_lengths_of_choices_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ratio=10", "continuation=12"]) != 0
    assert "leave one out" in capsys.readouterr().err
