"""Windows of text: what is scored, how many bytes that is, and what boundaries keep apart."""

from __future__ import annotations

import json
import math

import pytest
import torch

from rla_exp.data import build_data, corpus_fingerprint
from rla_exp.errors import ConfigError, DataError

END = 256


def eval_batches(data, split):
    return [data.eval_batch(split, i) for i in range(data.num_eval_batches(split))]


def documents(tokens: list[int]) -> list[bytes]:
    """Cut a stream of byte tokens at its ends of documents."""
    found, current = [], []
    for token in tokens:
        if token == END:
            found.append(bytes(current))
            current = []
        else:
            current.append(token)
    assert not current
    return found


def held_out_stream(data, split) -> list[int]:
    """The stream of a held-out split, from its inputs and the last label."""
    tokens = torch.cat([batch.tokens.flatten() for batch in eval_batches(data, split)])
    labels = torch.cat([batch.labels.flatten() for batch in eval_batches(data, split)])
    last = int((labels != -100).nonzero().max())
    return [*tokens[: last + 1].tolist(), int(labels[last])]


def test_labels_are_the_next_token_and_every_token_but_the_first_is_scored(text_config, jsonl, records, tmp_path):
    data = build_data(text_config(jsonl, valid_fraction=0.3, test_fraction=0.3), seed=0, cache_dir=tmp_path / "cache")
    assert data.vocab_size == 257
    texts = {record.encode() for record in records}
    seen = set()
    for split in ("valid", "test"):
        batches = eval_batches(data, split)
        tokens = torch.cat([batch.tokens for batch in batches]).flatten()
        labels = torch.cat([batch.labels for batch in batches]).flatten()
        stream = held_out_stream(data, split)
        num_scored = len(stream) - 1
        assert labels.tolist() == stream[1:] + [-100] * (len(labels) - num_scored)
        assert tokens.tolist() == stream[:-1] + [END] * (len(labels) - num_scored)
        # windows of 32, three a batch, the last filled up
        assert len(labels) == 32 * math.ceil(num_scored / 32)
        assert len(batches) == math.ceil(math.ceil(num_scored / 32) / 3)
        found = documents(stream)
        assert set(found) <= texts
        assert len(found) == len(set(found))
        assert not seen & set(found)
        seen |= set(found)
        # every byte but the first token's is scored; ends of documents stand for none
        assert sum(batch.num_bytes for batch in batches) == sum(len(text) for text in found) - 1
        assert all(batch.cu_seqlens is None and batch.groups is None for batch in batches)
    train = {tuple(row) for i in range(data.batches_per_epoch) for row in data.train_batch(i).tokens.tolist()}
    assert len(train) == data.batches_per_epoch * 4
    left = b"\n".join(texts - seen)
    assert all(bytes(part) in left for row in train for part in split_at_end(row))


def split_at_end(row):
    parts, current = [], []
    for token in row:
        if token == END:
            parts.append(current)
            current = []
        else:
            current.append(token)
    return [*parts, current]


def test_boundaries_cut_sequences_and_labels_at_documents(text_config, jsonl, tmp_path):
    config = text_config(jsonl, document_boundaries=True, valid_fraction=0.3, seq_len=48)
    plain = text_config(jsonl, valid_fraction=0.3, seq_len=48)
    data, unpacked = (build_data(c, seed=0, cache_dir=tmp_path / "cache") for c in (config, plain))
    stream = held_out_stream(unpacked, "valid")
    num_bytes = scored = 0
    for batch, flat in zip(eval_batches(data, "valid"), eval_batches(unpacked, "valid"), strict=True):
        tokens, labels = batch.tokens[0].tolist(), batch.labels[0].tolist()
        assert batch.tokens.shape == batch.labels.shape == (1, flat.tokens.numel())
        assert tokens == flat.tokens.flatten().tolist()
        padded = (flat.labels == -100).flatten().tolist()
        # by definition: a sequence begins at every window, and after every end of a document
        expected = {0, len(tokens)}
        for place in range(1, len(tokens)):
            if place % 48 == 0 or (tokens[place - 1] == END and not padded[place]):
                expected.add(place)
        assert batch.cu_seqlens.tolist() == sorted(expected)
        assert batch.cu_seqlens.dtype == torch.int32
        for place, (token, label, next_label) in enumerate(
            zip(tokens, labels, flat.labels.flatten().tolist(), strict=True)
        ):
            assert label == (-100 if token == END else next_label), place
        num_bytes += batch.num_bytes
        scored += sum(label != -100 for label in labels)
    found = documents(stream)
    assert len(found) > 10
    # the first byte of each document is nobody's label
    assert scored == len(stream) - len(found)
    assert num_bytes == sum(len(text) for text in found) - len(found)
    batch = data.train_batch(0)
    assert batch.tokens.shape == (1, 4 * 48)
    assert set(range(0, 4 * 48 + 1, 48)) <= set(batch.cu_seqlens.tolist())
    assert (batch.cu_seqlens.diff() > 0).all()


def test_subword_bytes_sum_to_the_text(text_config, jsonl, records, tmp_path):
    config = text_config(jsonl, tokenizer="bpe", bpe_vocab_size=300, valid_fraction=0.3, seq_len=16)
    data = build_data(config, seed=0, cache_dir=tmp_path / "cache")
    assert data.vocab_size == 300
    stream = held_out_stream(data, "valid")
    end = data.tokenizer.end
    texts, current = [], []
    for token in stream:
        if token == end:
            texts.append(data.tokenizer.decode(current))
            current = []
        else:
            current.append(token)
    assert set(texts) <= set(records)
    first = data.tokenizer.encode([texts[0]])[0].num_bytes[0]
    total = sum(batch.num_bytes for batch in eval_batches(data, "valid"))
    assert total == sum(len(text.encode()) for text in texts) - first


def test_training_is_a_pure_function_of_seed_and_index(text_config, jsonl, tmp_path):
    for boundaries in (False, True):
        config = text_config(jsonl, document_boundaries=boundaries)
        once, again, other = (build_data(config, seed=seed, cache_dir=tmp_path / "cache") for seed in (0, 0, 1))
        per_epoch = once.batches_per_epoch
        expected = {index: once.train_batch(index) for index in (0, 3, per_epoch + 2, 10 * per_epoch)}
        for index in reversed(expected):
            batch = again.train_batch(index)
            assert torch.equal(batch.tokens, expected[index].tokens)
            assert torch.equal(batch.labels, expected[index].labels)
            assert batch.num_bytes == expected[index].num_bytes
        assert not torch.equal(expected[0].tokens, other.train_batch(0).tokens)
        assert not torch.equal(expected[0].tokens, expected[10 * per_epoch].tokens)
        assert torch.equal(once.eval_batch("valid", 0).tokens, other.eval_batch("valid", 0).tokens)


def test_a_document_keeps_its_split_when_others_come(text_config, jsonl, records, tmp_path):
    def held_out(path):
        data = build_data(text_config(path, valid_fraction=0.2, test_fraction=0.2), seed=0, cache_dir=tmp_path / "c")
        return {split: set(documents(held_out_stream(data, split))) for split in ("valid", "test")}

    before = held_out(jsonl)
    more = [*records, *(f"another text, the {i}th {'y' * 40}" for i in range(40))]
    # in another order, with a copy of every text
    longer = tmp_path / "longer.jsonl"
    longer.write_text("".join(json.dumps({"text": text}) + "\n" for text in [*reversed(more), *more]))
    after = held_out(longer)
    for split in ("valid", "test"):
        assert len(before[split]) >= 5
        assert before[split] == after[split] & {text.encode() for text in records}
    assert not after["valid"] & after["test"]


def test_max_eval_tokens_caps_what_is_scored(text_config, jsonl, tmp_path):
    config = text_config(jsonl, max_eval_tokens=50, valid_fraction=0.3)
    data = build_data(config, seed=0, cache_dir=tmp_path / "cache")
    for split in ("valid", "test"):
        batches = eval_batches(data, split)
        assert sum(int((batch.labels != -100).sum()) for batch in batches) == 50
        assert sum(batch.num_bytes for batch in batches) <= 50


def test_batches_that_are_not_there_are_refused(text_config, jsonl, tmp_path):
    data = build_data(text_config(jsonl), seed=0, cache_dir=tmp_path / "cache")
    count = data.num_eval_batches("valid")
    for index in (-1, count):
        with pytest.raises(IndexError, match=f"valid has {count} batches, there is no batch {index}"):
            data.eval_batch("valid", index)
    with pytest.raises(IndexError, match="there is no batch -1"):
        data.train_batch(-1)


def test_max_bytes_bounds_the_corpus(text_config, jsonl, tmp_path):
    data = build_data(text_config(jsonl, max_bytes=2000), seed=0, cache_dir=tmp_path / "cache")
    # a character of four bytes may fall away at the cut
    assert 1997 <= data.fingerprint.num_bytes <= 2000


def test_the_fingerprint_is_known_without_tokens_and_follows_the_content(text_config, jsonl, records, tmp_path):
    config = text_config(jsonl)
    fingerprint = corpus_fingerprint(config, tmp_path / "a")
    assert not (tmp_path / "a" / "tokens").exists()
    assert fingerprint == build_data(config, seed=0, cache_dir=tmp_path / "b").fingerprint
    assert fingerprint.num_bytes == sum(len(record.encode()) for record in records)
    moved = tmp_path / "elsewhere" / jsonl.name
    moved.parent.mkdir()
    moved.write_bytes(jsonl.read_bytes())
    assert corpus_fingerprint(text_config(moved), tmp_path / "a") == fingerprint
    moved.write_text(jsonl.read_text().replace("Record 7:", "record 7:"))
    changed = corpus_fingerprint(text_config(moved), tmp_path / "a")
    assert changed.num_bytes == fingerprint.num_bytes
    assert changed.sha256 != fingerprint.sha256


def test_sequences_longer_than_the_data_are_refused(text_config, jsonl, tmp_path):
    with pytest.raises(DataError, match=r"data\.seq_len=4096 times data\.batch_size=4 is more than the \d+ tokens"):
        build_data(text_config(jsonl, seq_len=4096), seed=0, cache_dir=tmp_path / "cache")


def test_too_few_documents_are_refused(text_config, tmp_path):
    path = tmp_path / "two.jsonl"
    path.write_text('{"text": "one"}\n{"text": "two"}\n')
    with pytest.raises(DataError, match="the corpus has 2 documents, none is left for the train split"):
        build_data(text_config(path), seed=0, cache_dir=tmp_path / "cache")


def test_every_impossible_setting_is_named(text_config, tmp_path):
    config = text_config(
        batch_size=0, seq_len=0, valid_fraction=0.7, test_fraction=0.3, tokenizer="bpe", bpe_vocab_size=256
    )
    for act in (lambda: build_data(config, seed=0, cache_dir=tmp_path), lambda: corpus_fingerprint(config, tmp_path)):
        with pytest.raises(ConfigError) as raised:
            act()
        problems = raised.value.problems
        assert len(problems) == 5
        for start, problem in zip(
            (
                "data.batch_size=0",
                "data.seq_len=0",
                "data.valid_fraction=0.7 and data.test_fraction=0.3",
                "data.bpe_vocab_size=256",
                "data.paths is empty",
            ),
            problems,
            strict=True,
        ):
            assert problem.startswith(start)
    with pytest.raises(ConfigError, match=r"data\.max_bytes is not set: data\.streaming=true"):
        build_data(text_config(source="hub", hub_name="a/b", streaming=True), seed=0, cache_dir=tmp_path)
    with pytest.raises(ConfigError, match=r"data\.hub_name is not set"):
        build_data(text_config(source="hub"), seed=0, cache_dir=tmp_path)
