"""A task's files in a folder, checked line by line before anything is scored."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import datasets
import pytest

from rla_exp.errors import DataError
from rla_exp.eval.lm_eval_tasks import is_offered
from rla_exp.eval.local_files import find_files, read_documents, required_fields, sha256_of, wanted_splits
from rla_exp.eval.suite import LmEvalSuite, NeedleSuite, load_suite, narrowed
from rla_exp.eval.task_names import leaf_names, task_config, task_manager

DOCUMENTS: list[dict[str, Any]] = [{"question": "Why?", "answer": 1}, {"question": "How?", "answer": 0}]


def write(file: Path, documents: list[Any]) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    lines = "".join(json.dumps(document) + "\n" for document in documents)
    if file.suffix == ".parquet":
        datasets.Dataset.from_list(documents).to_parquet(file)
    elif file.name.endswith(".gz"):
        file.write_bytes(gzip.compress(lines.encode()))
    else:
        file.write_text(json.dumps(documents) if file.suffix == ".json" else lines, encoding="utf-8")
    return file


@pytest.mark.parametrize("ending", ["jsonl", "jsonl.gz", "json", "parquet"])
def test_every_ending_reads_alike(tmp_path: Path, ending: str) -> None:
    file = write(tmp_path / "task" / f"test.{ending}", DOCUMENTS)
    assert find_files(tmp_path, "task", ["test", "train"]) == {"test": file}
    assert read_documents(file, ["question", "answer"]) == DOCUMENTS


def test_compression_does_not_change_the_hash(tmp_path: Path) -> None:
    plain, packed = (write(tmp_path / f"test.{ending}", DOCUMENTS) for ending in ("jsonl", "jsonl.gz"))
    assert sha256_of({"test": plain}) == sha256_of({"test": packed}) != sha256_of({"train": plain})


def test_a_line_without_a_field_is_named(tmp_path: Path) -> None:
    file = write(tmp_path / "test.jsonl", [*DOCUMENTS, {"question": "Who?"}])
    with pytest.raises(DataError, match=r"test\.jsonl, line 3: the field answer is missing \(there are question\)"):
        read_documents(file, ["question", "answer"])
    # where nothing tells the fields, the first document does
    with pytest.raises(DataError, match=r"line 3: the field answer is missing"):
        read_documents(file, [])


def test_broken_files_name_the_line(tmp_path: Path) -> None:
    file = tmp_path / "test.jsonl"
    file.write_text('{"question": 1}\n\n{"question": \n', encoding="utf-8")
    with pytest.raises(DataError, match=r"test\.jsonl, line 3: no JSON"):
        read_documents(file, [])
    with pytest.raises(DataError, match=r"line 1: must be an object with fields, not list"):
        read_documents(write(file, [[1]]), [])
    for fields in ([], ["question"]):
        with pytest.raises(DataError, match=r"line 1: must be an object with fields, not int"):
            read_documents(write(file, [5]), fields)
    with pytest.raises(DataError, match="holds no documents"):
        read_documents(write(file, []), [])
    packed = tmp_path / "test.jsonl.gz"
    packed.write_bytes(b"not gzip")
    with pytest.raises(DataError, match="cannot read"):
        read_documents(packed, [])


def test_fields_and_splits_follow_from_the_task() -> None:
    names = ["arc_easy", "lambada_openai", "hellaswag", "boolq", "swde", "in_context_nq"]
    manager = task_manager(names)
    found = {name: required_fields(name, task_config(manager, name)) for name in names}
    assert found["arc_easy"] == ["answerKey", "choices", "question"]
    assert found["lambada_openai"] == ["text"]
    assert found["hellaswag"] == ["activity_label", "ctx_a", "ctx_b", "endings", "label"]
    assert found["boolq"] == ["label", "passage", "question"]
    assert found["swde"] == ["text", "value"]
    assert found["in_context_nq"] == ["context", "question", "answers"]
    assert wanted_splits(task_config(manager, "arc_easy"), 0) == ["test"]
    assert wanted_splits(task_config(manager, "arc_easy"), 5) == ["test", "train"]
    assert wanted_splits(task_config(manager, "boolq"), 0) == ["validation"]
    assert leaf_names(manager, "ai2_arc") == ["arc_challenge", "arc_easy"]


def test_what_a_folder_offers(tmp_path: Path) -> None:
    (tmp_path / "lambada_openai").mkdir()
    (tmp_path / "mmlu_anatomy").mkdir()
    offered = [name for name in ("lambada_openai", "mmlu", "piqa", "smoke_document") if is_offered(name, tmp_path)]
    # a member of the group is there; the smoke suite makes its documents
    assert offered == ["lambada_openai", "mmlu", "smoke_document"]


def test_a_suite_with_some_of_its_tasks() -> None:
    language = narrowed(load_suite("language"), {"piqa", "wikitext"})
    assert isinstance(language, LmEvalSuite)
    assert language.tasks == ["wikitext", "piqa"]
    # a member of a group is no entry of the suite
    assert narrowed(load_suite("language"), {"piqa", "mmlu_anatomy"}) == load_suite("language")
    needles = narrowed(load_suite("niah"), {"needle_single_1"})
    assert isinstance(needles, NeedleSuite)
    assert needles.tasks == ["needle_single_1"]
    assert narrowed(load_suite("mqar"), set()) == load_suite("mqar")
