"""Data sets of the hub, with the network's place taken by data sets made here."""

from __future__ import annotations

import datasets
import pytest

from rla_exp.data import build_data, corpus_fingerprint
from rla_exp.errors import DataError, InterruptedRun


@pytest.fixture
def hub(monkeypatch):
    """Answer `load_dataset` with what the test puts into the returned dict; records what was asked."""
    answer = {"asked": [], "splits": {}}

    def load_dataset(name, config, *, revision, streaming):
        answer["asked"].append((name, config, revision, streaming))
        if isinstance(answer["splits"], Exception):
            raise answer["splits"]
        made = {split: datasets.Dataset.from_dict(columns) for split, columns in answer["splits"].items()}
        if streaming:
            return datasets.IterableDatasetDict({k: v.to_iterable_dataset() for k, v in made.items()})
        return datasets.DatasetDict(made)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    return answer


def texts(word, count):
    return [f"{word} number {i}, {'z' * 50}" for i in range(count)]


def test_splits_of_its_own_are_kept(text_config, tmp_path, hub):
    hub["splits"] = {
        "test": {"page": texts("test", 5)},
        "train": {"page": texts("train", 20)},
        "validation": {"page": ["", *texts("valid", 4)]},
    }
    config = text_config(
        source="hub", hub_name="who/what", hub_config="raw", hub_revision="abc", text_key="page", seq_len=16
    )
    data = build_data(config, seed=0, cache_dir=tmp_path)
    assert hub["asked"] == [("who/what", "raw", "abc", False)]
    for split, word, count in (("valid", "valid", 4), ("test", "test", 5)):
        batches = [data.eval_batch(split, i) for i in range(data.num_eval_batches(split))]
        expected = sum(len(text) for text in texts(word, count))
        assert sum(batch.num_bytes for batch in batches) == expected - 1
        assert bytes(batches[0].tokens.flatten()[:4].tolist()) == word.encode()[:4]
    rows = [row for i in range(data.batches_per_epoch) for row in data.train_batch(i).tokens.tolist()]
    text = b" ".join(bytes(token for token in row if token < 256) for row in rows)
    assert b"train" in text
    assert b"test" not in text
    assert b"valid" not in text
    # from the cache, the network is not asked again
    build_data(config, seed=1, cache_dir=tmp_path)
    assert len(hub["asked"]) == 1


def test_one_split_is_held_out_by_hash_and_streaming_stops(text_config, tmp_path, hub):
    hub["splits"] = {"train": {"text": texts("text", 1000)}}
    config = text_config(source="hub", hub_name="who/what", streaming=True, max_bytes=10_000)
    fingerprint = corpus_fingerprint(config, tmp_path)
    assert hub["asked"] == [("who/what", None, None, True)]
    assert 10_000 <= fingerprint.num_bytes < 10_100
    data = build_data(config, seed=0, cache_dir=tmp_path)
    assert data.num_eval_batches("valid") > 0
    assert data.num_eval_batches("test") > 0


def test_bounds_of_held_out_splits_are_their_share(text_config, tmp_path, hub):
    hub["splits"] = {split: {"text": texts(split, 500)} for split in ("train", "validation", "test")}
    config = text_config(
        source="hub", hub_name="a/b", streaming=True, max_bytes=10_000, valid_fraction=0.1, test_fraction=0.2
    )
    data = build_data(config, seed=0, cache_dir=tmp_path)
    sizes = [
        sum(data.eval_batch(split, i).num_bytes for i in range(data.num_eval_batches(split)))
        for split in ("valid", "test")
    ]
    assert 1000 <= sizes[0] + 1 < 1100
    assert 2000 <= sizes[1] + 1 < 2100


@pytest.mark.parametrize("streaming", [True, False])
def test_a_data_set_without_network_says_how_to_go_on(text_config, tmp_path, hub, streaming):
    hub["splits"] = ConnectionError("Couldn't reach 'who/what' on the Hub\nmore")
    config = text_config(source="hub", hub_name="who/what", streaming=streaming, max_bytes=100)
    with pytest.raises(DataError) as raised:
        corpus_fingerprint(config, tmp_path)
    message = str(raised.value)
    assert message.startswith("cannot read data.hub_name=who/what: ConnectionError: Couldn't reach 'who/what'")
    assert "more" not in message
    for advice in ("no network", "paths.cache", "HF_HOME", "data=files data.paths=[...]", "data=stdlib_docs"):
        assert advice in message
    # nothing half-written stays behind
    assert [path.suffix for path in (tmp_path / "corpora").iterdir()] == [".lock"]


def test_an_order_to_stop_passes_through(text_config, tmp_path, hub):
    hub["splits"] = InterruptedRun("stopped")
    with pytest.raises(InterruptedRun, match=r"^stopped$"):
        corpus_fingerprint(text_config(source="hub", hub_name="who/what"), tmp_path)
    # nothing half-written stays behind
    assert [path.suffix for path in (tmp_path / "corpora").iterdir()] == [".lock"]


def test_a_missing_column_names_those_there(text_config, tmp_path, hub):
    hub["splits"] = {"train": {"page": ["text"], "n": [1]}}
    with pytest.raises(DataError, match=r"who/what: no text under 'text' \(columns: page, n\); set data\.text_key"):
        corpus_fingerprint(text_config(source="hub", hub_name="who/what"), tmp_path)


def test_a_data_set_without_train_names_its_splits(text_config, tmp_path, hub):
    hub["splits"] = {"dev": {"text": ["text"]}}
    with pytest.raises(DataError, match=r"who/what: has no split 'train' \(splits: dev\)"):
        corpus_fingerprint(text_config(source="hub", hub_name="who/what"), tmp_path)
