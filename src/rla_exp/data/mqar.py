"""Multi-query associative recall (MQAR): generated sequences that ask a model for values it was told before.

The rules are those of Zoology (Arora et al., 2024, arXiv 2312.04927), which the field compares by; keys that are
written more than once are ours.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from rla_exp.config.schema import MqarConfig, MqarSegment
from rla_exp.data.batch import IGNORE, SPLITS, Batch, EvalSplit, Split
from rla_exp.data.order import GENERATE, EpochOrder
from rla_exp.errors import ConfigError

IntArray = NDArray[np.int64]


def generate_mqar(
    rng: np.random.Generator,
    *,
    num_examples: int,
    length: int,
    num_pairs: int,
    vocab_size: int,
    writes: int = 1,
    power_a: float = 0.01,
    random_non_queries: bool = True,
) -> tuple[IntArray, IntArray]:
    """Draw MQAR sequences; returns (tokens, labels), int64 [num_examples, length], labels -100 where not scored.

    A sequence opens with the context k1 v1 ... kn vn: n distinct keys of [1, V/2), n distinct values of [V/2, V).
    The rest is divided into slots of two positions; every key is asked for once, at the first position of a slot.
    The i-th slot (from 1) has weight a i^(a-1), which favours early slots, and slots are drawn one after another
    without replacement. The label at a query's own position is the key's value; other positions are filled with
    random tokens of [0, V), or with 0. With V = 16, length = 12, n = 2 and `.` for -100:

        position   0   1   2   3   4   5   6   7   8   9  10  11
        tokens     3  12   5   9   5   1   0   7   3  14   2  11
        labels     .   .   .   .   9   .   .   .  12   .   .   .
                   k1  v1  k2  v2  k2              k1

    With writes = w > 1 the context has w n pairs: every key is written w times, all writes in one random order, so that
    a key's last write may stand before another's first. A value holds until its key is written again, and the label is
    the last one: a state that adds up what it is told answers with a mixture, one that corrects what it holds at the
    key does not. The i-th writes of all keys have n distinct values, drawn anew for each i; the last ones are therefore
    distinct as above, and an old value may be the current one of another key: which values were seen does not tell
    which are valid. With w = 2, length = 12:

        position   0   1   2   3   4   5   6   7   8   9  10  11
        tokens     3  12   5   9   5  14   3  10   3   6   5  13
        labels     .   .   .   .   .   .   .   .  10   .  14   .
                   k1  v1  k2  v2  k2  v2' k1  v1' k1      k2

    Args:
        num_pairs: n, the number of keys; below a quarter of vocab_size.
        writes: w; context and queries need 2 n (w + 1) <= length.
        length: even.
    """
    half = vocab_size // 2
    context = 2 * num_pairs * writes
    keys = _distinct(rng, num_examples, num_pairs, 1, half)
    values = np.stack([_distinct(rng, num_examples, num_pairs, half, vocab_size) for _ in range(writes)], axis=-1)
    places = _draw_places(rng, num_examples, num_pairs, writes)
    slots = _draw_slots(rng, num_examples, num_pairs, (length - context) // 2, power_a)

    shape = (num_examples, length)
    tokens = rng.integers(vocab_size, size=shape) if random_non_queries else np.zeros(shape, dtype=np.int64)
    labels = np.full(shape, IGNORE, dtype=np.int64)
    for i in range(writes):
        np.put_along_axis(tokens, 2 * places[..., i], keys, axis=1)
        np.put_along_axis(tokens, 2 * places[..., i] + 1, values[..., i], axis=1)
    queries = context + 2 * slots
    np.put_along_axis(tokens, queries, keys, axis=1)
    np.put_along_axis(labels, queries, values[..., -1], axis=1)
    return tokens, labels


def _distinct(rng: np.random.Generator, rows: int, count: int, low: int, high: int) -> IntArray:
    """int64 [rows, count], uniform over the ordered choices of `count` distinct numbers of [low, high).

    Repeats are drawn again until none is left. Which entry of a repeat goes depends on positions alone, so no
    number is favoured over another and every ordered choice is equally likely. Count is at most half of the range,
    so a repeat is mended with probability 1/2 at least.
    """
    drawn = rng.integers(low, high, size=(rows, count))
    open_rows = np.arange(rows)
    while open_rows.size:
        part = drawn[open_rows]
        by_value = np.argsort(part, axis=1, kind="stable")
        ordered = np.take_along_axis(part, by_value, axis=1)
        row, place = np.nonzero(ordered[:, 1:] == ordered[:, :-1])
        drawn[open_rows[row], by_value[row, place + 1]] = rng.integers(low, high, size=row.size)
        open_rows = open_rows[np.unique(row)]
    return drawn


def _draw_places(rng: np.random.Generator, rows: int, count: int, writes: int) -> IntArray:
    """int64 [rows, count, writes]: which of the context's pairs is the i-th write of each key, rising along i.

    Keys are in random order themselves: where each is written once they stay in it, as the field has them.
    """
    in_order = np.tile(np.arange(count * writes), (rows, 1))
    drawn = in_order if writes == 1 else rng.permuted(in_order, axis=1)
    return np.sort(drawn.reshape(rows, count, writes), axis=-1)


def _draw_slots(rng: np.random.Generator, rows: int, count: int, num_slots: int, power_a: float) -> IntArray:
    """int64 [rows, count]: slots drawn one by one without replacement, P(i) ~ a (i + 1)^(a - 1) for i from 0.

    The order in which exponential clocks of these rates ring is the order of such draws.
    """
    rates = power_a * np.arange(1, num_slots + 1, dtype=np.float64) ** (power_a - 1)
    rings = rng.standard_exponential((rows, num_slots)) / rates
    return np.argsort(rings, axis=1)[:, :count]


class MqarData:
    """MQAR as `Data`: every segment is generated once, by a Generator of its own."""

    fingerprint = None

    def __init__(self, config: MqarConfig, seed: int) -> None:
        problems = mqar_problems(config)
        if problems:
            raise ConfigError(problems)
        self.config = config
        self.vocab_size = config.vocab_size
        self._splits = {split: _segments(config, split, seed) for split in SPLITS}
        train = self._splits["train"]
        if config.order == "mixed":
            train = [_Segment.join(train)]
        self._train = train
        self._train_batches = _batch_table(train, config.batch_size)
        self._eval_batches = {
            split: _batch_table(self._splits[split], config.eval_batch_size) for split in ("valid", "test")
        }
        # stream 0 orders batches, stream i + 1 the examples of segment i
        self._batch_order = EpochOrder(len(self._train_batches), seed, stream=0)
        self._example_orders = [EpochOrder(len(s), seed, stream=i + 1) for i, s in enumerate(train)]

    @property
    def batches_per_epoch(self) -> int:
        return len(self._train_batches)

    def train_batch(self, index: int) -> Batch:
        if index < 0:
            raise IndexError(f"training batches count from 0, there is no batch {index}")
        epoch, place = divmod(index, len(self._train_batches))
        if self.config.order == "sequential":
            number, start, stop = self._train_batches[place]
            return self._train[number].batch(torch.arange(start, stop))
        number, start, stop = self._train_batches[int(self._batch_order(epoch)[place])]
        return self._train[number].batch(torch.from_numpy(self._example_orders[number](epoch)[start:stop]))

    def num_eval_batches(self, split: EvalSplit) -> int:
        return len(self._eval_batches[split])

    def eval_batch(self, split: EvalSplit, index: int) -> Batch:
        if not 0 <= index < self.num_eval_batches(split):
            raise IndexError(f"{split} has {self.num_eval_batches(split)} batches, there is no batch {index}")
        number, start, stop = self._eval_batches[split][index]
        return self._splits[split][number].batch(torch.arange(start, stop))


class _Segment:
    """Sequences of one length: tokens and labels [n, T] in a small integer type, groups [n]."""

    def __init__(self, tokens: torch.Tensor, labels: torch.Tensor, groups: torch.Tensor) -> None:
        self.tokens, self.labels, self.groups = tokens, labels, groups

    @classmethod
    def join(cls, segments: Sequence[_Segment]) -> _Segment:
        return cls(
            torch.cat([s.tokens for s in segments]),
            torch.cat([s.labels for s in segments]),
            torch.cat([s.groups for s in segments]),
        )

    def __len__(self) -> int:
        return len(self.tokens)

    def batch(self, rows: torch.Tensor) -> Batch:
        return Batch(
            tokens=self.tokens[rows].long(),
            labels=self.labels[rows].long(),
            cu_seqlens=None,
            groups=self.groups[rows],
            num_bytes=0,
        )


def _segments(config: MqarConfig, split: Split, seed: int) -> list[_Segment]:
    """Generate a split; each segment's random numbers are its own, so that no split repeats another's."""
    small = torch.int16 if config.vocab_size <= torch.iinfo(torch.int16).max else torch.int32
    segments = []
    for i, spec in enumerate(_specs(config, split)):
        tokens, labels = generate_mqar(
            np.random.default_rng((seed, GENERATE, SPLITS.index(split), i)),
            num_examples=spec.num_examples,
            length=spec.length,
            num_pairs=spec.num_pairs,
            vocab_size=config.vocab_size,
            writes=spec.writes,
            power_a=config.power_a,
            random_non_queries=config.random_non_queries,
        )
        groups = torch.full((spec.num_examples,), spec.num_pairs)
        segments.append(_Segment(torch.from_numpy(tokens).to(small), torch.from_numpy(labels).to(small), groups))
    return segments


def _specs(config: MqarConfig, split: Split) -> list[MqarSegment]:
    return {"train": config.train, "valid": config.valid, "test": config.test}[split]


def _batch_table(segments: Sequence[_Segment], batch_size: int) -> list[tuple[int, int, int]]:
    """(segment, first row, row after the last) of every batch; the last batch of a segment may be smaller."""
    return [
        (i, start, min(start + batch_size, len(segment)))
        for i, segment in enumerate(segments)
        for start in range(0, len(segment), batch_size)
    ]


def mqar_problems(config: MqarConfig) -> list[str]:
    """Everything that makes the settings impossible, one message a problem, each naming its key."""
    problems = []
    for key in ("batch_size", "eval_batch_size"):
        if getattr(config, key) < 1:
            problems.append(f"data.{key}={getattr(config, key)}: must be at least 1")
    if config.power_a <= 0:
        problems.append(f"data.power_a={config.power_a}: must be above 0 (0.01 is the field's choice)")
    for split in SPLITS:
        specs = _specs(config, split)
        if not specs:
            problems.append(f"data.{split} is empty: give at least one segment of length, num_pairs and num_examples")
        for i, spec in enumerate(specs):
            problems += _segment_problems(f"data.{split}[{i}]", spec, config.vocab_size)
    lengths = sorted({spec.length for spec in config.train})
    if config.order == "mixed" and len(lengths) > 1:
        problems.append(
            f"data.order=mixed needs training segments of one length, they have {lengths}: "
            "make the lengths equal, or take data.order=shuffled"
        )
    return problems


def _segment_problems(key: str, spec: MqarSegment, vocab_size: int) -> list[str]:
    problems = []
    if spec.num_examples < 1:
        problems.append(f"{key}.num_examples={spec.num_examples}: must be at least 1")
    if spec.num_pairs < 1:
        problems.append(f"{key}.num_pairs={spec.num_pairs}: must be at least 1")
    if spec.length < 1 or spec.length % 2:
        problems.append(f"{key}.length={spec.length}: must be even and positive, since queries stand at even places")
    if spec.writes < 1:
        return [*problems, f"{key}.writes={spec.writes}: must be at least 1"]
    if 4 * spec.num_pairs >= vocab_size:
        problems.append(f"{key}.num_pairs={spec.num_pairs}: must be below a quarter of data.vocab_size={vocab_size}")
    each = 2 * (spec.writes + 1)
    if each * spec.num_pairs > spec.length:
        problems.append(
            f"{key}.num_pairs={spec.num_pairs}: {spec.length} tokens hold at most {spec.length // each} pairs (context "
            f"and queries take {each} a pair); lower num_pairs or raise {key}.length to {each * spec.num_pairs}"
        )
    return problems
