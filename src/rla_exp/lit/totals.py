"""Sums over a held-out split, and the metrics of a kind of data that they make."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, field

from torch import Tensor

# exp of it is still a float; a loss beyond means a model far worse than a uniform guess over any vocabulary
LARGEST_EXPONENT = 700.0


@dataclass
class Totals:
    """What the batches of a split add up to."""

    nats: float = 0.0
    """Sum of the loss over all scored tokens."""
    num_scored: int = 0
    num_bytes: int = 0
    """Bytes of text that the scored tokens stand for."""
    accuracies: dict[int, list[float]] = field(default_factory=lambda: defaultdict(list))
    """For each group of sequences, each sequence's share of correct tokens."""

    def add(self, nats: float, num_scored: int, num_bytes: int) -> None:
        """Count one batch."""
        self.nats += nats
        self.num_scored += num_scored
        self.num_bytes += num_bytes

    def add_accuracies(self, groups: Tensor, accuracies: Tensor) -> None:
        """Count one batch's sequences: group and accuracy [B] of each; sequences without a scored token are nan."""
        for group, accuracy in zip(groups.tolist(), accuracies.tolist(), strict=True):
            if not math.isnan(accuracy):
                self.accuracies[group].append(accuracy)

    @property
    def loss(self) -> float:
        """Nats a scored token."""
        return self.nats / self.num_scored


def recall_metrics(totals: Totals) -> dict[str, float]:
    """Loss, accuracy (mean over sequences, as Zoology reports it) and accuracy@<pairs> of each number of pairs."""
    groups = dict(sorted(totals.accuracies.items()))
    sequences = [accuracy for group in groups.values() for accuracy in group]
    return {
        "loss": totals.loss,
        "accuracy": math.fsum(sequences) / len(sequences),
        **{f"accuracy@{pairs}": math.fsum(group) / len(group) for pairs, group in groups.items()},
    }


def text_metrics(totals: Totals) -> dict[str, float]:
    """Loss, perplexity of a token, and bits per byte, which does not depend on the tokenizer."""
    return {
        "loss": totals.loss,
        "perplexity": math.exp(min(totals.loss, LARGEST_EXPONENT)),
        "bits_per_byte": totals.nats / (math.log(2.0) * totals.num_bytes),
    }
