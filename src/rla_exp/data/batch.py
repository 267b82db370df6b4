"""What data hands to training and evaluation: batches, and the interface that every kind of data has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from torch import Tensor

IGNORE = -100
"""Label of a position that is not scored (the default `ignore_index` of PyTorch's cross entropy)."""

EvalSplit = Literal["valid", "test"]
Split = Literal["train", "valid", "test"]
SPLITS: tuple[Split, ...] = ("train", "valid", "test")


class Batch(NamedTuple):
    """One batch of next-token prediction (a named tuple, which Lightning can move between devices)."""

    tokens: Tensor
    """int64 [B, T]; with cu_seqlens [1, T], several sequences packed one after another."""
    labels: Tensor
    """int64, shaped as tokens; what is to be predicted *at* each position, -100 where nothing is scored."""
    cu_seqlens: Tensor | None
    """int32 [N + 1]: where the packed sequences begin, then T; None: every row is one sequence."""
    groups: Tensor | None
    """int64 [B]: the group of each sequence (MQAR: its number of key-value pairs; text: the part of its split); None
    where there are none."""
    num_bytes: int
    """Bytes of text that the labels score, so that bits per byte = nats in total / (ln 2 * bytes); 0 without text."""


@dataclass(frozen=True)
class CorpusFingerprint:
    """Which text a run was trained on; runs whose fingerprints differ must not be compared."""

    sha256: str
    """Of the documents' names and bytes, in order."""
    num_bytes: int
    """Bytes of text in all splits together."""
    python_version: str
    """The Python that read it (the standard library is a corpus of its own)."""


class Data(Protocol):
    """Batches by index. Each is a pure function of (configuration, seed, index): resuming needs no data state."""

    @property
    def vocab_size(self) -> int:
        """Tokens are in [0, vocab_size)."""
        ...

    @property
    def fingerprint(self) -> CorpusFingerprint | None:
        """Of the text; None where the data is generated."""
        ...

    @property
    def batches_per_epoch(self) -> int:
        """Training batches until every training sequence has been seen once."""
        ...

    def train_batch(self, index: int) -> Batch:
        """The training batch of step `index`; epochs follow each other without end.

        Raises:
            IndexError: a negative index.
        """
        ...

    def num_eval_batches(self, split: EvalSplit) -> int:
        """Batches that cover the split once."""
        ...

    def eval_batch(self, split: EvalSplit, index: int) -> Batch:
        """Batch `index` of the split, in a fixed order.

        Raises:
            IndexError: not in range(num_eval_batches(split)).
        """
        ...
