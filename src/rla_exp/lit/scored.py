"""Loss and accuracy at the labelled positions only: unlabelled ones never reach the head."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from rla_exp.data import IGNORE, Batch
from rla_exp.models import LanguageModel


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


def scored_hidden(hidden: Tensor, batch: ScoredBatch) -> Tensor:
    """[B, T, d_model] to [N, d_model]: what the head reads."""
    flat = hidden.flatten(0, 1)
    return flat if batch.positions is None else flat.index_select(0, batch.positions)


def scored_loss(model: LanguageModel, hidden: Tensor, batch: ScoredBatch, reduction: str) -> tuple[Tensor, Tensor]:
    """Cross entropy in nats (float32; "mean" or "sum" over the scored tokens) and the logits [N, vocab_size]."""
    logits = model.head(scored_hidden(hidden, batch))
    return F.cross_entropy(logits.float(), batch.targets, reduction=reduction), logits


def sequence_accuracies(logits: Tensor, batch: ScoredBatch) -> Tensor:
    """Share of each sequence's scored tokens that are predicted, float64 [B] on the CPU; nan where none is scored."""
    rows, length = batch.tokens.shape
    hits = logits.argmax(-1).eq(batch.targets).cpu().double()
    if batch.positions is None:
        return hits.view(rows, length).mean(1)
    owner = batch.positions.cpu() // length
    count = torch.bincount(owner, minlength=rows)
    return torch.bincount(owner, weights=hits, minlength=rows) / count
