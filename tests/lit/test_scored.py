"""Loss and accuracy at labelled positions, against PyTorch's own ignore_index."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rla_exp.data import IGNORE, Batch
from rla_exp.lit import scored
from rla_exp.lit.scored import mean_loss, pick_scored, sequence_accuracies, summed_loss
from rla_exp.lit.totals import Totals, recall_metrics, text_metrics


class Head(nn.Module):
    """The part of a language model that the loss uses; counts the rows it sees."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 11)
        self.num_rows = 0

    def head(self, hidden: Tensor) -> Tensor:
        self.num_rows += hidden.shape[0]
        logits: Tensor = self.linear(hidden)
        return logits


def make_batch(labels: Tensor) -> Batch:
    return Batch(torch.zeros_like(labels), labels, None, None, 5)


@pytest.mark.parametrize("share", [0.3, 1.0])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_loss_equals_the_whole_one_with_ignored_labels(share: float, reduction: str) -> None:
    torch.manual_seed(0)
    labels = torch.randint(11, (3, 6)).masked_fill(torch.rand(3, 6) > share, IGNORE)
    hidden = torch.randn(3, 6, 8, requires_grad=True)
    model = Head()
    batch = pick_scored(make_batch(labels))
    if reduction == "mean":
        loss = mean_loss(model, hidden, batch.targets, batch.positions)  # type: ignore[arg-type]
    else:
        loss, _ = summed_loss(model, hidden, batch)  # type: ignore[arg-type]
    num_scored = int((labels != IGNORE).sum())
    assert model.num_rows == len(batch.targets) == num_scored
    assert (batch.positions is None) == (num_scored == labels.numel())
    expected = F.cross_entropy(model.head(hidden).flatten(0, 1), labels.flatten(), reduction=reduction)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(*(torch.autograd.grad(value, hidden)[0] for value in (loss, expected)))


def test_held_out_loss_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    labels = torch.randint(11, (3, 6))
    model = Head()
    batch = pick_scored(make_batch(labels))
    hidden = torch.randn(3, 6, 8)
    widened: list[int] = []

    def cross_entropy(logits: Tensor, targets: Tensor, reduction: str) -> Tensor:
        widened.append(logits.numel())
        return F.nll_loss(logits.log_softmax(-1), targets, reduction=reduction)

    expected = F.cross_entropy(model.head(hidden).flatten(0, 1), labels.flatten(), reduction="sum")
    monkeypatch.setattr(scored, "MAX_FLOAT32_LOGITS", 11 * 5)
    monkeypatch.setattr("rla_exp.lit.scored.F.cross_entropy", cross_entropy)
    loss, logits = summed_loss(model, hidden, batch)  # type: ignore[arg-type]
    assert widened == [55, 55, 55, 33]
    assert logits.shape == (18, 11)
    torch.testing.assert_close(loss, expected)


def test_loss_is_float32() -> None:
    hidden = torch.randn(1, 4, 8, dtype=torch.bfloat16)
    model = Head().bfloat16()
    batch = pick_scored(make_batch(torch.zeros(1, 4).long()))
    loss, logits = summed_loss(model, hidden, batch)  # type: ignore[arg-type]
    assert (loss.dtype, logits.dtype) == (torch.float32, torch.bfloat16)
    assert mean_loss(model, hidden, batch.targets, batch.positions).dtype == torch.float32  # type: ignore[arg-type]


def test_accuracy_of_each_sequence() -> None:
    labels = torch.tensor([[1, IGNORE, 2, IGNORE], [IGNORE] * 4, [3, 3, 3, 3]])
    batch = pick_scored(make_batch(labels))
    predicted = torch.tensor([1, 0, 3, 3, 0, 3])
    accuracies = sequence_accuracies(F.one_hot(predicted, 11).float(), batch).tolist()
    assert accuracies[0] == 0.5
    assert math.isnan(accuracies[1])
    assert accuracies[2] == 0.75
    every = pick_scored(make_batch(torch.tensor([[1, 2], [3, 4]])))
    assert sequence_accuracies(F.one_hot(torch.tensor([1, 0, 3, 4]), 11).float(), every).tolist() == [0.5, 1.0]


def test_recall_metrics_are_means_over_sequences() -> None:
    totals = Totals()
    totals.add(6.0, 4, 0)
    totals.add_accuracies(torch.tensor([8, 2, 2]), torch.tensor([0.25, 1.0, float("nan")]))
    totals.add(2.0, 4, 0)
    totals.add_accuracies(torch.tensor([8, 8]), torch.tensor([0.5, 0.75]))
    assert recall_metrics(totals) == {"loss": 1.0, "accuracy": 0.625, "accuracy@2": 1.0, "accuracy@8": 0.5}
    assert list(recall_metrics(totals)) == ["loss", "accuracy", "accuracy@2", "accuracy@8"]


def test_text_metrics() -> None:
    totals = Totals()
    totals.add(8 * math.log(2), 4, 16)
    # 2 bits a token, 4 bytes a token
    assert text_metrics(totals) == pytest.approx({"loss": 2 * math.log(2), "perplexity": 4.0, "bits_per_byte": 0.5})
    totals.add(1e6, 4, 16)
    assert math.isfinite(text_metrics(totals)["perplexity"])
