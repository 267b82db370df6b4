"""Loss and accuracy at the labelled positions only: unlabelled ones never reach the head."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from rla_exp.data import IGNORE, Batch
from rla_exp.models import LanguageModel

MAX_FLOAT32_LOGITS = 2**26
"""Held-out logits that are widened at a time: all of a batch of 64 x 1024 tokens of 32,768 words would take 16 GiB."""


class ScoredBatch(NamedTuple):
    """A batch with its labelled positions picked out, on the CPU, where that does not wait for a GPU."""

    tokens: Tensor
    """int64 [B, T]."""
    targets: Tensor
    """int64 [N]: the labels that are scored."""
    positions: Tensor | None
    """int64 [N]: where they stand in the flattened [B * T]; None: every position is scored."""
    cu_seqlens: Tensor | None
    groups: Tensor | None
    num_bytes: int


def pick_scored(batch: Batch) -> ScoredBatch:
    """Find the labelled positions of a batch."""
    labels = batch.labels.flatten()
    positions: Tensor | None = (labels != IGNORE).nonzero().squeeze(1)
    assert positions is not None
    if len(positions) == len(labels):
        positions, targets = None, labels
    else:
        targets = labels[positions]
    return ScoredBatch(batch.tokens, targets, positions, batch.cu_seqlens, batch.groups, batch.num_bytes)


def scored_logits(model: LanguageModel, hidden: Tensor, positions: Tensor | None) -> Tensor:
    """Hidden states [B, T, d_model] to logits [N, vocab_size], at the scored positions (None: at all)."""
    flat = hidden.flatten(0, 1)
    return model.head(flat if positions is None else flat.index_select(0, positions))


def mean_loss(model: LanguageModel, hidden: Tensor, targets: Tensor, positions: Tensor | None) -> Tensor:
    """Cross entropy in nats, float32, the mean over the scored tokens; takes no more than it needs, to be compiled."""
    return F.cross_entropy(scored_logits(model, hidden, positions).float(), targets)


def summed_loss(model: LanguageModel, hidden: Tensor, batch: ScoredBatch) -> tuple[Tensor, Tensor]:
    """The sum over the scored tokens, and their logits [N, vocab_size]."""
    logits = scored_logits(model, hidden, batch.positions)
    rows = max(MAX_FLOAT32_LOGITS // logits.shape[-1], 1)
    pieces = zip(torch.split(logits, rows), torch.split(batch.targets, rows), strict=True)
    return torch.stack([F.cross_entropy(x.float(), targets, reduction="sum") for x, targets in pieces]).sum(), logits


def sequence_accuracies(logits: Tensor, batch: ScoredBatch) -> Tensor:
    """Share of each sequence's scored tokens that are predicted, float64 [B] on the CPU; nan where none is scored."""
    rows, length = batch.tokens.shape
    hits = logits.argmax(-1).eq(batch.targets).cpu().double()
    if batch.positions is None:
        return hits.view(rows, length).mean(1)
    owner = batch.positions.cpu() // length
    count = torch.bincount(owner, minlength=rows)
    return torch.bincount(owner, weights=hits, minlength=rows) / count
