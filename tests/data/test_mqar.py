"""MQAR by the field's rules, checked example by example and against the distribution of its slots."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from rla_exp.config.schema import MqarConfig, MqarSegment
from rla_exp.data import build_data
from rla_exp.data.mqar import generate_mqar
from rla_exp.errors import ConfigError


def segment(length: int, num_pairs: int, num_examples: int, writes: int = 1) -> MqarSegment:
    return MqarSegment(length=length, num_pairs=num_pairs, num_examples=num_examples, writes=writes)


@pytest.fixture
def mqar_config() -> Callable[..., MqarConfig]:
    """Two segments of one length; keywords replace the settings."""

    def make(**settings: Any) -> MqarConfig:
        defaults: dict[str, Any] = {
            "vocab_size": 64,
            "batch_size": 8,
            "eval_batch_size": 16,
            "train": [segment(32, 2, 40), segment(32, 8, 20)],
            "valid": [segment(32, 2, 24), segment(16, 4, 8)],
            "test": [segment(32, 2, 24)],
        }
        return MqarConfig(kind="mqar", name="mqar", **(defaults | settings))

    return make


def assert_follows_rules(
    tokens: list[int], labels: list[int], num_pairs: int, vocab_size: int, writes: int = 1
) -> None:
    """The rules read off one sequence, without any of the generator's own arithmetic."""
    context = 2 * num_pairs * writes
    written: dict[int, list[int]] = {}
    for key, value in zip(tokens[0:context:2], tokens[1:context:2], strict=True):
        written.setdefault(key, []).append(value)
    assert len(written) == num_pairs
    assert all(1 <= key < vocab_size // 2 for key in written)
    for values in zip(*written.values(), strict=True):
        assert len(set(values)) == num_pairs
        assert all(vocab_size // 2 <= value < vocab_size for value in values)
    asked = [place for place, label in enumerate(labels) if label != -100]
    assert all(place >= context and place % 2 == 0 for place in asked)
    assert sorted(tokens[place] for place in asked) == sorted(written)
    memory = {key: values[-1] for key, values in written.items()}
    assert all(len(values) == writes for values in written.values())
    assert [labels[place] for place in asked] == [memory[tokens[place]] for place in asked]
    assert all(0 <= token < vocab_size for token in tokens)


@pytest.mark.parametrize(
    ("length", "num_pairs", "vocab_size", "writes"),
    [
        (64, 4, 8192, 1),
        (64, 16, 65, 1),
        (16, 4, 17, 1),
        (256, 64, 8192, 1),
        (4, 1, 6, 1),
        (64, 8, 66, 3),
        (48, 4, 17, 2),
        (128, 1, 6, 63),
    ],
)
@pytest.mark.parametrize("random_non_queries", [True, False])
def test_sequences_follow_the_rules(length, num_pairs, vocab_size, writes, random_non_queries):
    tokens, labels = generate_mqar(
        np.random.default_rng(0),
        num_examples=300,
        length=length,
        num_pairs=num_pairs,
        vocab_size=vocab_size,
        writes=writes,
        random_non_queries=random_non_queries,
    )
    assert tokens.shape == labels.shape == (300, length)
    for row_tokens, row_labels in zip(tokens.tolist(), labels.tolist(), strict=True):
        assert_follows_rules(row_tokens, row_labels, num_pairs, vocab_size, writes)
    filler = (labels == -100) & (np.arange(length) >= 2 * num_pairs * writes)
    if random_non_queries:
        assert len(np.unique(tokens[filler])) > min(vocab_size, filler.sum()) / 2
    else:
        assert (tokens[filler] == 0).all()


def test_keys_written_once_are_the_fields_sequences_bit_for_bit():
    # recorded before keys could be written more than once
    whole = hashlib.sha256()
    for length, num_pairs, vocab_size, random in ((64, 4, 8192, True), (64, 16, 66, True), (16, 4, 17, False)):
        for part in generate_mqar(
            np.random.default_rng(5),
            num_examples=500,
            length=length,
            num_pairs=num_pairs,
            vocab_size=vocab_size,
            random_non_queries=random,
        ):
            whole.update(part.astype("<i8").tobytes())
    assert whole.hexdigest() == "47d235cbadeba781e48d3ef9220cf691838d9a296b8566b60e677e487544278b"


def test_the_order_of_writes_is_uniform():
    # 2 keys written twice: the place of the first key's writes is one of 3 choices of equal probability
    n = 30_000
    tokens, labels = generate_mqar(
        np.random.default_rng(3), num_examples=n, length=12, num_pairs=2, vocab_size=64, writes=2
    )
    context = tokens[:, 0:8:2]
    as_first = context == context[:, [0]]
    assert (as_first.sum(axis=1) == 2).all()
    share = np.bincount(np.argmax(as_first[:, 1:], axis=1), minlength=3) / n
    assert np.abs(share - 1 / 3).max() < 4.5 * np.sqrt(2 / 9 / n)
    # an old value comes back as the other key's current one, or as its own, with probability 1/32 each
    last = np.where(labels == -100, 0, labels)
    old = np.array([row[1] for row in tokens])
    current_of_any = (last == old[:, None]).any(axis=1)
    assert abs(current_of_any.mean() - 2 / 32) < 4.5 * np.sqrt(2 / 32 * 30 / 32 / n)


def test_slots_are_drawn_one_by_one_with_the_power_law():
    # 8 slots, 2 pairs; the first draw has P(i) = p_i, the second P(j) = sum over i != j of p_i p_j / (1 - p_i)
    n, power_a = 40_000, 0.01
    tokens, labels = generate_mqar(
        np.random.default_rng(1), num_examples=n, length=20, num_pairs=2, vocab_size=64, power_a=power_a
    )
    p = power_a * np.arange(1, 9) ** (power_a - 1)
    p /= p.sum()
    second = np.array([sum(p[i] * p[j] / (1 - p[i]) for i in range(8) if i != j) for j in range(8)])
    assert p[0] == pytest.approx(0.366, abs=0.002)
    for pair, expected in ((0, p), (1, second)):
        asked = (labels != -100) & (tokens == tokens[:, [2 * pair]])
        # the first place that asks for this key: fillers carry no label, keys are distinct
        slots = (np.argmax(asked, axis=1) - 4) // 2
        share = np.bincount(slots, minlength=8) / n
        deviation = (share - expected) / np.sqrt(expected * (1 - expected) / n)
        assert np.abs(deviation).max() < 4.5


def test_keys_and_values_are_uniform():
    n = 20_000
    tokens, _ = generate_mqar(np.random.default_rng(2), num_examples=n, length=32, num_pairs=8, vocab_size=40)
    for position, low, high in ((0, 1, 20), (14, 1, 20), (1, 20, 40), (15, 20, 40)):
        counts = np.bincount(tokens[:, position], minlength=high)[low:high]
        share = 1 / (high - low)
        assert counts.sum() == n
        assert np.abs(counts / n - share).max() < 4.5 * np.sqrt(share * (1 - share) / n)


def rows(batch):
    return {tuple(row) for row in batch.tokens.tolist()}


def test_batches_are_a_pure_function_of_seed_and_index(mqar_config, tmp_path):
    for order in ("mixed", "shuffled", "sequential"):
        config = mqar_config(order=order)
        once, again = (build_data(config, seed=3, cache_dir=tmp_path) for _ in range(2))
        # far and near epochs in another order of asking
        expected = {index: once.train_batch(index) for index in (0, 1, 25, 7, 100)}
        for index in (100, 7, 0, 25, 1):
            batch = again.train_batch(index)
            assert torch.equal(batch.tokens, expected[index].tokens)
            assert torch.equal(batch.labels, expected[index].labels)
            assert torch.equal(batch.groups, expected[index].groups)
    other = build_data(mqar_config(), seed=4, cache_dir=tmp_path)
    assert not torch.equal(other.eval_batch("test", 0).tokens, once.eval_batch("test", 0).tokens)


@pytest.mark.parametrize("order", ["mixed", "shuffled", "sequential"])
def test_an_epoch_shows_every_sequence_once(mqar_config, tmp_path, order):
    data = build_data(mqar_config(order=order), seed=0, cache_dir=tmp_path)
    # 40 and 20 sequences: 5 + 3 batches of one segment, 8 of both together (the last has 4)
    assert data.batches_per_epoch == 8
    epochs = [[data.train_batch(8 * epoch + i) for i in range(8)] for epoch in range(2)]
    for epoch in epochs:
        assert len(set().union(*(rows(batch) for batch in epoch))) == 60
        assert sum(len(batch.tokens) for batch in epoch) == 60
        assert torch.cat([batch.groups for batch in epoch]).bincount().tolist() == [0, 0, 40, 0, 0, 0, 0, 0, 20]
    same = [torch.equal(a.tokens, b.tokens) for a, b in zip(*epochs, strict=True) if len(a.tokens) == len(b.tokens)]
    groups_of_batches = [len(batch.groups.unique()) for batch in epochs[0]]
    if order == "sequential":
        assert all(same)
        assert [int(batch.groups[0]) for batch in epochs[0]] == [2] * 5 + [8] * 3
    else:
        assert not any(same)
    assert max(groups_of_batches) == (2 if order == "mixed" else 1)


def test_a_batch_has_labels_of_its_group(mqar_config, tmp_path):
    data = build_data(mqar_config(order="mixed"), seed=0, cache_dir=tmp_path)
    batch = data.train_batch(0)
    assert batch.tokens.dtype == batch.labels.dtype == batch.groups.dtype == torch.int64
    assert batch.tokens.shape == batch.labels.shape == (8, 32)
    assert batch.cu_seqlens is None
    assert batch.num_bytes == 0
    assert torch.equal((batch.labels != -100).sum(1), batch.groups)
    for tokens, labels, group in zip(batch.tokens, batch.labels, batch.groups, strict=True):
        assert_follows_rules(tokens.tolist(), labels.tolist(), int(group), 64)


def test_held_out_splits_have_their_segments_and_share_nothing(mqar_config, tmp_path):
    data = build_data(mqar_config(), seed=0, cache_dir=tmp_path)
    assert data.vocab_size == 64
    assert data.fingerprint is None
    valid = [data.eval_batch("valid", i) for i in range(data.num_eval_batches("valid"))]
    assert [tuple(batch.tokens.shape) for batch in valid] == [(16, 32), (8, 32), (8, 16)]
    assert [batch.groups.unique().tolist() for batch in valid] == [[2], [2], [4]]
    test = [data.eval_batch("test", i) for i in range(data.num_eval_batches("test"))]
    train = [data.train_batch(i) for i in range(data.batches_per_epoch)]
    splits = [set().union(*(rows(batch) for batch in batches)) for batches in (train, valid, test)]
    assert [len(split) for split in splits] == [60, 32, 24]
    assert len(set().union(*splits)) == 60 + 32 + 24


@pytest.mark.parametrize("order", ["mixed", "shuffled", "sequential"])
def test_batches_that_are_not_there_are_refused(mqar_config, tmp_path, order):
    data = build_data(mqar_config(order=order), seed=0, cache_dir=tmp_path)
    for index in (-1, 3):
        with pytest.raises(IndexError, match=f"valid has 3 batches, there is no batch {index}"):
            data.eval_batch("valid", index)
    with pytest.raises(IndexError, match="there is no batch -1"):
        data.train_batch(-1)


def test_large_vocabularies_keep_their_values(mqar_config, tmp_path):
    data = build_data(mqar_config(vocab_size=100_000), seed=0, cache_dir=tmp_path)
    batch = data.train_batch(0)
    labels = batch.labels[batch.labels != -100]
    assert labels.min() >= 50_000
    assert labels.max() > 70_000
    assert batch.tokens.min() >= 0


def test_every_impossible_setting_is_named(mqar_config, tmp_path):
    config = mqar_config(
        vocab_size=32,
        batch_size=0,
        power_a=0.0,
        order="mixed",
        train=[segment(32, 8, 8), segment(15, 4, 0)],
        valid=[],
        test=[segment(16, 0, 8), segment(28, 4, 8, writes=3), segment(30, 2, 8, writes=0)],
    )
    with pytest.raises(ConfigError) as raised:
        build_data(config, seed=0, cache_dir=tmp_path)
    for problem in (
        "data.batch_size=0: must be at least 1",
        "data.power_a=0.0: must be above 0",
        "data.train[0].num_pairs=8: must be below a quarter of data.vocab_size=32",
        "data.train[1].length=15: must be even",
        "data.train[1].num_examples=0: must be at least 1",
        "data.train[1].num_pairs=4: 15 tokens hold at most 3 pairs",
        "data.valid is empty",
        "data.test[0].num_pairs=0: must be at least 1",
        "data.test[1].num_pairs=4: 28 tokens hold at most 3 pairs (context and queries take 8 a pair); "
        "lower num_pairs or raise data.test[1].length to 32",
        "data.test[2].writes=0: must be at least 1",
        "data.order=mixed needs training segments of one length, they have [15, 32]",
    ):
        assert sum(re.search(re.escape(problem), text) is not None for text in raised.value.problems) == 1, problem
    assert len(raised.value.problems) == 11
