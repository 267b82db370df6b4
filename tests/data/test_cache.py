"""Cached folders: whole or absent, checked before use, built once."""

from __future__ import annotations

import errno
import importlib.util
import sys
import threading
import time

import pytest
import torch

from rla_exp.data import build_data, cache
from rla_exp.data.cache import cached_folder
from rla_exp.errors import DataError


def build(folder):
    (folder / "numbers").write_bytes(bytes(range(100)))
    (folder / "text").write_text("text")
    return {"count": 100}


def refuse(folder):
    raise AssertionError("built again")


def test_a_whole_folder_is_built_once(tmp_path):
    assert cached_folder(tmp_path / "a", build) == {"count": 100}
    assert cached_folder(tmp_path / "a", refuse) == {"count": 100}
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["info.json", "manifest.json", "numbers", "text"]


def flip(folder):
    content = bytearray((folder / "numbers").read_bytes())
    content[50] ^= 1
    (folder / "numbers").write_bytes(content)


def truncate(folder):
    (folder / "numbers").write_bytes(bytes(range(99)))


def remove_file(folder):
    (folder / "text").unlink()


def remove_manifest(folder):
    (folder / "manifest.json").unlink()


def cut_manifest(folder):
    (folder / "manifest.json").write_text((folder / "manifest.json").read_text()[:-20])


def foreign_manifest(folder):
    (folder / "manifest.json").write_text("[1, 2]")


def change_info(folder):
    (folder / "info.json").write_text('{"count": 101}')


@pytest.mark.parametrize(
    "damage", [flip, truncate, remove_file, remove_manifest, cut_manifest, foreign_manifest, change_info]
)
def test_a_damaged_folder_is_built_again(tmp_path, caplog, damage):
    folder = tmp_path / "a"
    cached_folder(folder, build)
    damage(folder)
    assert cached_folder(folder, build) == {"count": 100}
    assert (folder / "numbers").read_bytes() == bytes(range(100))
    assert [record.levelname for record in caplog.records][:1] == ["WARNING"]
    assert f"cache {folder} is damaged" in caplog.text
    assert cached_folder(folder, refuse) == {"count": 100}


def test_a_half_written_folder_is_never_used(tmp_path):
    # what a killed process leaves
    partial = tmp_path / "a.partial"
    partial.mkdir()
    (partial / "numbers").write_bytes(b"half")
    assert not (tmp_path / "a").exists()
    assert cached_folder(tmp_path / "a", build) == {"count": 100}
    assert not partial.exists()


def test_a_failed_build_leaves_nothing(tmp_path):
    def fail(folder):
        (folder / "numbers").write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(DataError, match=r"cannot write the cache .*: No space left on device\. Free space there"):
        cached_folder(tmp_path / "a", fail)
    assert [path.name for path in tmp_path.iterdir()] == ["a.lock"]


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"cannot write the cache .*file/b/a: .*set paths\.cache to another folder"):
        cached_folder(tmp_path / "file" / "b" / "a", build)


def test_only_one_of_several_builds(tmp_path):
    built, infos = [], []

    def slow(folder):
        built.append(1)
        time.sleep(0.2)
        return build(folder)

    workers = [threading.Thread(target=lambda: infos.append(cached_folder(tmp_path / "a", slow))) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert built == [1]
    assert infos == [{"count": 100}] * 4


def test_a_system_without_flock_builds_without_waiting(tmp_path, monkeypatch):
    # an import of None fails, as that of fcntl does on Windows
    monkeypatch.setitem(sys.modules, "fcntl", None)
    spec = importlib.util.spec_from_file_location("cache_of_windows", cache.__file__)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.fcntl is None
    assert module.cached_folder(tmp_path / "a", build) == {"count": 100}
    assert module.cached_folder(tmp_path / "a", refuse) == {"count": 100}


@pytest.mark.parametrize("kind", ["corpora", "tokens", "tokenizers"])
def test_data_is_the_same_after_damage(text_config, jsonl, tmp_path, caplog, kind):
    config = text_config(jsonl, tokenizer="bpe", bpe_vocab_size=300)
    expected = build_data(config, seed=0, cache_dir=tmp_path / "cache").train_batch(3)
    (folder,) = [path for path in (tmp_path / "cache" / kind).iterdir() if path.is_dir()]
    largest = max(folder.iterdir(), key=lambda path: path.stat().st_size)
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 4
    largest.write_bytes(content)
    batch = build_data(config, seed=0, cache_dir=tmp_path / "cache").train_batch(3)
    assert f"{folder} is damaged ({largest.name} differs from its manifest)" in caplog.text
    assert torch.equal(batch.tokens, expected.tokens)
    assert torch.equal(batch.labels, expected.labels)
