"""A test split with files of its own: domains, longer sequences, and what is never on both sides."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from rla_exp.config import compose, identity
from rla_exp.config.schema import TextConfig
from rla_exp.data import Batch, build_data, corpus_fingerprint
from rla_exp.data.files import domain_names
from rla_exp.data.text import TextData
from rla_exp.errors import ConfigError, DataError
from rla_exp.lit.totals import Totals, part_metrics

Config = Callable[..., TextConfig]
END = 256


@pytest.fixture
def held_out(tmp_path: Path, records: list[str]) -> Path:
    """Two files of a test split: five records (one of them in the corpus too), and three."""
    folder = tmp_path / "held_out"
    folder.mkdir()
    for name, texts in (
        ("validation-gov", [f"gov {i} {'x' * 40}" for i in range(4)] + records[:1]),
        ("validation-fiction", [f"fiction {i} {'y' * 50}" for i in range(3)]),
    ):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return folder


@pytest.fixture
def data(text_config: Config, jsonl: Path, held_out: Path, tmp_path: Path) -> TextData:
    config = text_config(jsonl, test_paths=[f"{held_out}/*"], test_lengths=[64, 128], valid_fraction=0.1)
    built = build_data(config, seed=0, cache_dir=tmp_path / "cache")
    assert isinstance(built, TextData)
    return built


def texts_of(data: TextData, split: str, part: int | None = None) -> list[str]:
    """The documents of a held-out split, or of one part of it."""
    tokens: list[int] = []
    for batch in eval_batches(data, split):
        if part is None or (batch.groups is not None and int(batch.groups[0]) == part):
            scored = (batch.labels != -100).flatten()
            tokens += batch.tokens.flatten()[scored].tolist()
    ends = bytes(0 if token == END else token for token in tokens).split(b"\0")
    return [end.decode() for end in ends if end]


def eval_batches(data: TextData, split: str) -> list[Batch]:
    return [data.eval_batch(split, index) for index in range(data.num_eval_batches(split))]  # type: ignore[arg-type]


def test_each_file_is_a_domain_of_the_test_split(data: TextData, records: list[str]) -> None:
    parts = data.parts["test"]
    assert [(part.domain, part.seq_len, part.batch_size) for part in parts] == [
        ("fiction", 32, 3),
        ("gov", 32, 3),
        ("fiction", 64, 1),
        ("gov", 64, 1),
        ("fiction", 128, 1),
        ("gov", 128, 1),
    ]
    fiction, gov = (
        {f"{name} {i} {letter * size}" for i in range(count)}
        for name, letter, size, count in (("fiction", "y", 50, 3), ("gov", "x", 40, 4))
    )
    for number in (0, 2, 4):
        assert set(texts_of(data, "test", number)) == fiction
        assert set(texts_of(data, "test", number + 1)) == gov | {records[0]}
    # what is held out for the test is nowhere else
    others = set(texts_of(data, "valid"))
    train = b"".join(
        bytes(t for t in row if t != END)
        for i in range(data.batches_per_epoch)
        for row in data.train_batch(i).tokens.tolist()
    )
    assert records[0] not in others
    assert records[0][:32].encode() not in train
    assert others < set(records)


def test_batches_are_of_one_part_and_score_its_tokens_once(data: TextData) -> None:
    batches = eval_batches(data, "test")
    for number, part in enumerate(data.parts["test"]):
        own = [batch for batch in batches if batch.groups is not None and int(batch.groups[0]) == number]
        assert len(own) == part.num_batches
        for batch in own:
            assert batch.tokens.shape[1] == part.seq_len
            assert batch.groups is not None
            assert batch.groups.tolist() == [number] * len(batch.tokens)
        assert sum(int((batch.labels != -100).sum()) for batch in own) == part.num_scored
    # the label of a domain's last token would be of another domain
    assert data.parts["test"][0].num_scored == sum(len(f"fiction {i} ") + 51 for i in range(3)) - 1


def test_boundaries_hold_in_parts(text_config: Config, jsonl: Path, held_out: Path, tmp_path: Path) -> None:
    config = text_config(jsonl, test_paths=[f"{held_out}/*"], valid_fraction=0.1, document_boundaries=True)
    for index in range((data := build_data(config, seed=0, cache_dir=tmp_path / "cache")).num_eval_batches("test")):
        batch = data.eval_batch("test", index)
        assert batch.groups is not None
        assert batch.groups.shape == (1,)
        assert batch.cu_seqlens is not None
        assert batch.cu_seqlens[-1] == batch.tokens.shape[1]


def test_metrics_of_parts(data: TextData) -> None:
    parts = data.parts["test"]
    totals = Totals()
    # nats and bytes of each part: a bit a byte in fiction, two in gov; half of that at twice the length
    for number, (nats, num_bytes) in enumerate([(10.0, 10), (40.0, 20), (5.0, 10), (20.0, 20), (0.0, 10), (0.0, 20)]):
        totals.of_part(number).add(nats * math.log(2), 10, num_bytes)
    metrics = part_metrics(parts, totals.parts)
    assert metrics["bits_per_byte@fiction"] == pytest.approx(1.0)
    assert metrics["bits_per_byte@gov"] == pytest.approx(2.0)
    # over all text: neither the mean of the domains nor with the longer sequences in it
    assert metrics["bits_per_byte"] == pytest.approx(50 / 30)
    assert metrics["loss"] == pytest.approx(50 * math.log(2) / 20)
    assert metrics["bits_per_byte@64"] == pytest.approx(25 / 30)
    assert metrics["loss@64"] == pytest.approx(25 * math.log(2) / 20)
    assert metrics["loss@128"] == 0.0


def test_longer_sequences_without_domains(text_config: Config, jsonl: Path, tmp_path: Path) -> None:
    config = text_config(jsonl, test_lengths=[64], valid_fraction=0.1, test_fraction=0.2, max_eval_tokens=100)
    data = build_data(config, seed=0, cache_dir=tmp_path / "cache")
    assert isinstance(data, TextData)
    batches = eval_batches(data, "test")
    short = torch.cat([batch.tokens.flatten() for batch in batches if batch.tokens.shape[1] == 32])[:100]
    long = torch.cat([batch.tokens.flatten() for batch in batches if batch.tokens.shape[1] == 64])[:100]
    # the same text, cut in other places
    assert short.tolist() == long.tolist()
    assert all(batch.groups is None for batch in eval_batches(data, "valid"))


def test_the_corpus_is_known_by_what_it_says_and_not_by_where_it_lies(
    text_config: Config, jsonl: Path, held_out: Path, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    config = text_config(jsonl, test_paths=[f"{held_out}/*"])
    first = corpus_fingerprint(config, cache)
    shutil.move(held_out, tmp_path / "moved")
    shutil.move(jsonl.parent, tmp_path / "corpus2")
    moved = text_config(tmp_path / "corpus2" / jsonl.name, test_paths=[str(tmp_path / "moved" / "*")])
    assert corpus_fingerprint(moved, cache) == first == corpus_fingerprint(moved, tmp_path / "empty")
    assert corpus_fingerprint(text_config(tmp_path / "corpus2" / jsonl.name), cache) != first
    names = [["data.paths=[a.txt]", "data.test_paths=[b.txt]"], ["data.paths=[c.txt]", "data.test_paths=[d.txt]"]]
    found = {
        identity(compose(["data=files", *words]).resolved, corpus_sha256="0", device_type="cpu", threads=1)
        for words in names
    }
    assert len(found) == 1


def test_names_of_domains() -> None:
    assert domain_names([Path("a/validation-gov.jsonl.xz"), Path("a/validation-fiction.jsonl.xz")]) == [
        "gov",
        "fiction",
    ]
    assert domain_names([Path("validation-gov.txt")]) == ["validation-gov"]
    assert domain_names([Path("gov.txt"), Path("fiction.txt")]) == ["gov", "fiction"]
    with pytest.raises(DataError, match="two files have one name"):
        domain_names([Path("a/gov.txt"), Path("b/gov.txt")])


def test_settings_are_checked(text_config: Config, jsonl: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        compose(["data=stdlib_docs", "data.test_paths=[a.txt]", "data.test_lengths=[128,512]"])
    assert "data.test_paths" in str(caught.value)
    assert "data.test_lengths=[128,512]: must be distinct and above data.seq_len=256" in str(caught.value)
    with pytest.raises(ConfigError, match=r"data\.test_fraction=0\.1: has no effect"):
        compose(["data=files", "data.paths=[a.txt]", "data.test_paths=[b.txt]", "data.test_fraction=0.1"])
    config = text_config(jsonl, test_paths=[str(tmp_path / "nothing")])
    with pytest.raises(DataError, match=r"data\.test_paths: no file matches"):
        build_data(config, seed=0, cache_dir=tmp_path / "cache")
