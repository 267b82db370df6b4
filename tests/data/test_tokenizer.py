"""Tokenizers give text back, count its bytes exactly, and come from files or a cache."""

from __future__ import annotations

import errno
import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import tokenizers
from tokenizers import models, normalizers, pre_tokenizers

from rla_exp.data.tokenizer import ByteTokenizer, load_subword, subword_folder, train_bpe
from rla_exp.errors import DataError, InterruptedRun

TEXTS = ["plain words and words", "naïve café ☕ 🜂🜂", "  leading\n\n\tand trailing  ", "<|endoftext|> spelled out", "x"]


@pytest.fixture
def bpe(tmp_path):
    folder = tmp_path / "bpe"
    folder.mkdir()
    train_bpe(TEXTS * 3, 290, folder)
    return load_subword(folder)


def assert_encodes(tokenizer, texts) -> None:
    for text, encoded in zip(texts, tokenizer.encode(texts), strict=True):
        assert encoded.tokens[-1] == tokenizer.end
        assert (encoded.tokens[:-1] != tokenizer.end).all()
        assert encoded.tokens.max() < tokenizer.vocab_size
        assert encoded.tokens.shape == encoded.num_bytes.shape
        assert encoded.num_bytes.min() >= 0
        assert encoded.num_bytes.sum() == len(text.encode())
        assert tokenizer.decode(encoded.tokens.tolist()) == text


def test_bytes_round_trip():
    tokenizer = ByteTokenizer()
    assert_encodes(tokenizer, TEXTS)
    (encoded,) = tokenizer.encode(["é"])
    assert encoded.tokens.tolist() == [0xC3, 0xA9, 256]
    assert encoded.num_bytes.tolist() == [1, 1, 0]


def test_trained_bpe_round_trips_and_is_reproducible(bpe, tmp_path):
    assert bpe.vocab_size == 290
    assert_encodes(bpe, TEXTS)
    assert_encodes(bpe, ["unseen: ∮ E⋅da = Q, Ω ≠ ω"])
    again = tmp_path / "again"
    again.mkdir()
    train_bpe(TEXTS * 3, 290, again)
    assert (again / "tokenizer.json").read_bytes() == (tmp_path / "bpe" / "tokenizer.json").read_bytes()


def test_merged_tokens_carry_their_bytes(bpe):
    text = "words ☕"
    (encoded,) = bpe.encode([text])
    pieces = [bpe.decode([token]) for token in encoded.tokens[:-1].tolist()]
    whole = [piece for piece in pieces if "�" not in piece]
    sizes = encoded.num_bytes[: len(whole)].tolist()
    assert len(pieces) < len(text.encode())
    assert sizes == [len(piece.encode()) for piece in whole]


def word_level(folder, **config):
    """A tokenizer that lowers, drops white space and knows few words: its tokens do not spell the text."""
    folder.mkdir()
    tokenizer = tokenizers.Tokenizer(models.WordLevel({"[UNK]": 0, "hello": 1, "</s>": 2}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.enable_truncation(2)
    tokenizer.save(str(folder / "tokenizer.json"))
    if config:
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize(
    ("config", "end", "vocab_size"),
    [
        ({}, 3, 4),
        ({"eos_token": "</s>"}, 2, 3),
        ({"eos_token": {"content": "</s>"}}, 2, 3),
        ({"eos_token": None}, 3, 4),
    ],
)
def test_a_local_folder_keeps_its_end_or_gets_one(tmp_path, config, end, vocab_size):
    folder = subword_folder(str(word_level(tmp_path / "words", **config)), tmp_path / "cache")
    tokenizer = load_subword(folder)
    assert (tokenizer.end, tokenizer.vocab_size) == (end, vocab_size)
    text = "Hello   wörld hello \n"
    (encoded,) = tokenizer.encode([text])
    assert encoded.tokens.tolist() == [1, 0, 1, end]
    # spaces go with the token behind them, the last with the end of the document
    assert encoded.num_bytes.tolist() == [5, 9, 6, 2]
    assert encoded.num_bytes.sum() == len(text.encode())


def test_a_changed_tokenizer_file_is_another_tokenizer(tmp_path):
    source = word_level(tmp_path / "words")
    first = subword_folder(str(source / "tokenizer.json"), tmp_path / "cache")
    assert subword_folder(str(source), tmp_path / "cache") == first
    file = source / "tokenizer.json"
    file.write_text(file.read_text().replace('"hello"', '"howdy"'))
    assert subword_folder(str(source), tmp_path / "cache") != first


def test_a_name_of_the_hub_is_fetched_once(tmp_path, monkeypatch):
    source, asked = word_level(tmp_path / "words"), []

    def snapshot_download(name, allow_patterns):
        asked.append(name)
        return str(source)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    for _ in range(2):
        folder = subword_folder("someone/words", tmp_path / "cache")
        assert load_subword(folder).vocab_size == 4
    assert asked == ["someone/words"]


def test_without_network_the_error_says_what_to_do(tmp_path, monkeypatch):
    def snapshot_download(name, allow_patterns):
        raise ConnectionError("no route")

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    with pytest.raises(DataError, match=r"data\.tokenizer=gpt2: cannot fetch .*no route.*data\.tokenizer=bytes or bpe"):
        subword_folder("gpt2", tmp_path / "cache")


def refuse_reads_of(monkeypatch, source: Path, *, after: int) -> None:
    """Let files of `source` be read `after` times, then no more (root reads past every permission)."""
    read_bytes, reads = Path.read_bytes, []

    def refuse(self):
        if self.is_relative_to(source):
            reads.append(self)
            if len(reads) > after:
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))
        return read_bytes(self)

    monkeypatch.setattr(Path, "read_bytes", refuse)


# the first read is for the name in the cache, the second for the copy
@pytest.mark.parametrize("after", [0, 1])
def test_a_file_that_cannot_be_read_is_named(tmp_path, monkeypatch, after):
    source = word_level(tmp_path / "words")
    refuse_reads_of(monkeypatch, source, after=after)
    with pytest.raises(DataError, match=r"^data\.tokenizer: cannot read .*words/tokenizer\.json: Permission denied$"):
        subword_folder(str(source), tmp_path / "cache")


def test_an_order_to_stop_passes_through_a_download(tmp_path, monkeypatch):
    def snapshot_download(name, allow_patterns):
        raise InterruptedRun("stopped")

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    with pytest.raises(InterruptedRun, match=r"^stopped$"):
        subword_folder("gpt2", tmp_path / "cache")


def test_an_order_to_stop_passes_through_a_conversion(tmp_path, monkeypatch):
    transformers = pytest.importorskip("transformers")

    def from_pretrained(folder, trust_remote_code):
        raise InterruptedRun("stopped")

    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", from_pretrained)
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "merges.txt").write_text("#version: 0.2\n")
    with pytest.raises(InterruptedRun, match=r"^stopped$"):
        subword_folder(str(tmp_path / "old"), tmp_path / "cache")
    # nothing half-written stays behind
    assert [path.suffix for path in (tmp_path / "cache" / "tokenizers").iterdir()] == [".lock"]


def test_an_order_to_stop_passes_through_loading(tmp_path, monkeypatch):
    class Stopped:
        @staticmethod
        def from_file(_file):
            raise InterruptedRun("stopped")

    monkeypatch.setattr(tokenizers, "Tokenizer", Stopped)
    with pytest.raises(InterruptedRun, match=r"^stopped$"):
        load_subword(tmp_path)


def test_older_forms_are_converted_with_transformers(tmp_path):
    pytest.importorskip("transformers")
    folder = tmp_path / "gpt2"
    folder.mkdir()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {piece: i for i, piece in enumerate([*alphabet, "he", "hell", "ll", "<|endoftext|>"])}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\nh e\nl l\nhe ll\n")
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "GPT2Tokenizer", "eos_token": "<|endoftext|>"})
    )
    tokenizer = load_subword(subword_folder(str(folder), tmp_path / "cache"))
    assert tokenizer.end == vocabulary["<|endoftext|>"]
    (encoded,) = tokenizer.encode(["hello"])
    assert encoded.tokens.tolist() == [vocabulary["hell"], vocabulary["o"], tokenizer.end]
    assert np.array_equal(encoded.num_bytes, [4, 1, 0])


def test_older_forms_without_transformers_name_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "merges.txt").write_text("#version: 0.2\n")
    with pytest.raises(DataError, match=r"has no tokenizer\.json; converting it needs: pip install 'rla_exp\[hub\]'"):
        subword_folder(str(tmp_path / "old"), tmp_path / "cache")


def test_what_is_no_tokenizer_is_named(tmp_path):
    with pytest.raises(DataError, match=r"data\.tokenizer=\./none\.json: no such file or folder"):
        subword_folder("./none.json", tmp_path / "cache")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"data\.tokenizer=.*empty: the folder holds no tokenizer\.json"):
        subword_folder(str(tmp_path / "empty"), tmp_path / "cache")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "tokenizer.json").write_text("{}")
    with pytest.raises(DataError, match=r"tokenizer\.json is no tokenizer of the `tokenizers` library"):
        load_subword(subword_folder(str(tmp_path / "broken"), tmp_path / "cache"))
