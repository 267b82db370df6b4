"""Sums over a held-out split, and the metrics of a kind of data that they make."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from rla_exp.data.held_out import Part

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
    parts: dict[int, Totals] = field(default_factory=dict)
    """For each part of a text's split, its own sums; they are in no others."""

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

    def of_part(self, number: int) -> Totals:
        """The sums of a part."""
        return self.parts.setdefault(number, Totals())

    @classmethod
    def summed(cls, several: Iterable[Totals]) -> Totals:
        """The sums of several together."""
        whole = cls()
        for totals in several:
            whole.add(totals.nats, totals.num_scored, totals.num_bytes)
        return whole

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


def part_metrics(parts: Sequence[Part], totals: Mapping[int, Totals]) -> dict[str, float]:
    """The metrics of a split in parts: of all its text at the length of training, of each domain at that length
    (`bits_per_byte@fiction`), and of all its text at each longer length (`loss@2048`, `bits_per_byte@2048`).
    """
    by_domain = {part.domain: totals[i] for i, part in enumerate(parts) if not part.is_longer}
    metrics = text_metrics(Totals.summed(by_domain.values()))
    for domain, own in by_domain.items():
        if domain is not None:
            metrics[f"bits_per_byte@{domain}"] = text_metrics(own)["bits_per_byte"]
    for length in dict.fromkeys(part.seq_len for part in parts if part.is_longer):
        whole = Totals.summed(totals[i] for i, part in enumerate(parts) if part.seq_len == length)
        found = text_metrics(whole)
        metrics |= {f"{name}@{length}": found[name] for name in ("loss", "bits_per_byte")}
    return metrics
