"""Language modelling on text: full sequences cut from streams of tokens, with or without document boundaries."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from rla_exp.config.schema import TextConfig
from rla_exp.data.batch import IGNORE, Batch, CorpusFingerprint, EvalSplit
from rla_exp.data.held_out import Part, cut_into_parts
from rla_exp.data.order import EpochOrder
from rla_exp.data.tokenizer import Tokenizer
from rla_exp.data.tokens import TokenStream, open_tokens
from rla_exp.errors import ConfigError, DataError


class TextData:
    """Text as `Data`.

    A split is a stream of tokens, t_0 t_1 ..., cut into windows of T = seq_len: window i has the inputs
    t_{iT} .. t_{iT+T-1} and, as labels, the token after each, so every token but the first is scored once.
    Training takes full windows, in a new order each epoch, and full batches; held-out splits take all, their last
    window filled up with unscored end-of-document tokens. A test split with domains, or that is scored at longer
    lengths too, is several such streams, its `parts`; a batch is of one part, which its `groups` name.

    With document_boundaries a batch is one packed row [1, B T] whose cu_seqlens begin at windows and documents, and
    the first token of a document, which nothing precedes, is not scored.
    """

    def __init__(self, config: TextConfig, seed: int, cache_dir: Path, *, progress: bool = False) -> None:
        problems = text_problems(config)
        if problems:
            raise ConfigError(problems)
        self.config = config
        corpus = open_tokens(config, cache_dir, progress=progress)
        self.fingerprint: CorpusFingerprint = corpus.fingerprint
        self.tokenizer: Tokenizer = corpus.tokenizer
        self.vocab_size = corpus.tokenizer.vocab_size
        self._splits = corpus.splits
        self.parts: dict[EvalSplit, tuple[Part, ...]] = {
            split: cut_into_parts(
                len(corpus.splits[split].tokens),
                corpus.domains if split == "test" else {},
                seq_len=config.seq_len,
                longer=config.test_lengths if split == "test" else (),
                batch_size=config.eval_batch_size,
                cap=config.max_eval_tokens,
            )
            for split in ("valid", "test")
        }
        """What is scored apart in each held-out split; a batch's `groups` has a part's place in it."""

        windows = (len(self._splits["train"].tokens) - 1) // config.seq_len
        if windows < config.batch_size:
            raise DataError(
                f"data.seq_len={config.seq_len} times data.batch_size={config.batch_size} is more than the "
                f"{len(self._splits['train'].tokens)} tokens of the training split: lower one of them, or add text"
            )
        self.batches_per_epoch = windows // config.batch_size
        self._order = EpochOrder(windows, seed)

    def train_batch(self, index: int) -> Batch:
        if index < 0:
            raise IndexError(f"training batches count from 0, there is no batch {index}")
        epoch, place = divmod(index, self.batches_per_epoch)
        start = place * self.config.batch_size
        stream = self._splits["train"]
        windows = self._order(epoch)[start : start + self.config.batch_size]
        return self._batch(stream, windows * self.config.seq_len, self.config.seq_len, len(stream.tokens) - 1)

    def num_eval_batches(self, split: EvalSplit) -> int:
        return sum(part.num_batches for part in self.parts[split])

    def eval_batch(self, split: EvalSplit, index: int) -> Batch:
        if not 0 <= index < self.num_eval_batches(split):
            raise IndexError(f"{split} has {self.num_eval_batches(split)} batches, there is no batch {index}")
        number, place = 0, index
        while place >= self.parts[split][number].num_batches:
            place -= self.parts[split][number].num_batches
            number += 1
        part = self.parts[split][number]
        windows = np.arange(part.num_windows)[place * part.batch_size : (place + 1) * part.batch_size]
        starts = part.start + windows * part.seq_len
        batch = self._batch(self._splits[split], starts, part.seq_len, part.start + part.num_scored)
        if len(self.parts[split]) == 1:
            return batch
        return batch._replace(groups=torch.full((len(batch.tokens),), number))

    def _batch(self, stream: TokenStream, starts: NDArray[np.int64], T: int, stop: int) -> Batch:
        """The batch of windows of T positions that begin at `starts` [B]; positions from `stop` on have no label."""
        at = starts[:, None] + np.arange(T)  # [B, T]
        scored = at < stop
        after = np.minimum(at, stop - 1) + 1
        tokens = np.where(scored, stream.tokens[after - 1].astype(np.int64), self.tokenizer.end)
        cu_seqlens = None
        if self.config.document_boundaries:
            begins = scored & stream.is_start(after)
            # sequences begin with their window, and where the position before is followed by a new document
            first = np.ones_like(scored)
            first[:, 1:] = begins[:, :-1] & scored[:, 1:]
            cu_seqlens = torch.from_numpy(np.append(np.flatnonzero(first), first.size).astype(np.int32))
            # that position's label would come from another document
            scored &= ~begins
        labels = np.where(scored, stream.tokens[after].astype(np.int64), IGNORE)
        num_bytes = int(stream.num_bytes[after][scored].sum(dtype=np.int64))
        shape = (-1, T) if cu_seqlens is None else (1, -1)
        return Batch(
            torch.from_numpy(tokens).reshape(shape),
            torch.from_numpy(labels).reshape(shape),
            cu_seqlens,
            None,
            num_bytes,
        )


def text_problems(config: TextConfig) -> list[str]:
    """Everything that makes the settings impossible, one message a problem, each naming its key."""
    problems = []
    for key in ("batch_size", "eval_batch_size", "seq_len", "max_bytes", "max_eval_tokens"):
        value = getattr(config, key)
        if value is not None and value < 1:
            problems.append(f"data.{key}={value}: must be at least 1")
    for key in ("valid_fraction", "test_fraction"):
        if not 0 < getattr(config, key) < 1:
            problems.append(f"data.{key}={getattr(config, key)}: must lie between 0 and 1")
    if config.valid_fraction + config.test_fraction >= 1:
        problems.append(
            f"data.valid_fraction={config.valid_fraction} and data.test_fraction={config.test_fraction} leave nothing "
            "to train on: their sum must be below 1"
        )
    if config.tokenizer == "bpe" and config.bpe_vocab_size < 257:
        problems.append(f"data.bpe_vocab_size={config.bpe_vocab_size}: 256 bytes and the end of a document need 257")
    if config.source == "hub" and config.hub_name is None:
        problems.append("data.hub_name is not set: data.source=hub needs the name of a data set")
    if config.source == "hub" and config.streaming and config.max_bytes is None:
        problems.append("data.max_bytes is not set: data.streaming=true needs to know where to stop")
    if config.source == "files" and not config.paths:
        problems.append("data.paths is empty: data.source=files needs files or globs, as data.paths=[texts/*.txt]")
    return problems
