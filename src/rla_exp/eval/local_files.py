"""A task's data from a folder: `<data_dir>/<task>/<split>.jsonl` (also .jsonl.gz, .json, .json.gz or .parquet)."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
from jinja2 import Environment, TemplateSyntaxError, meta

from rla_exp.errors import DataError

ENDINGS = (".jsonl", ".jsonl.gz", ".json", ".json.gz", ".parquet")

# fields that tasks read by functions of their own, which no template tells
_READ_BY_FUNCTIONS = {
    "wikitext": ("page",),
    "hellaswag": ("activity_label", "ctx_a", "ctx_b", "endings", "label"),
    "winogrande": ("sentence", "option1", "option2", "answer"),
    **dict.fromkeys(("swde", "fda", "squad_completion"), ("text", "value")),
    **dict.fromkeys(("in_context_swde", "in_context_fda"), ("text", "key", "value")),
    "in_context_squad": ("text", "value"),
    **dict.fromkeys(("in_context_drop", "in_context_nq", "in_context_triviaqa"), ("context", "question", "answers")),
}


def wanted_splits(config: Mapping[str, Any], num_fewshot: int) -> list[str]:
    """The splits that a task reads: the one it is scored on, and that of the examples, unless it brings them itself."""
    scored = config.get("test_split") or config.get("validation_split") or "validation"
    fewshot = config.get("fewshot_config") or {}
    shots = fewshot.get("split") or config.get("fewshot_split")
    if shots is None and fewshot.get("samples") is None:
        shots = config.get("training_split") or config.get("validation_split")
    return list(dict.fromkeys([scored, *([shots] if num_fewshot and shots else [])]))


def required_fields(name: str, config: Mapping[str, Any]) -> list[str]:
    """The fields of a document that a task reads, as far as its description tells."""
    if name in _READ_BY_FUNCTIONS:
        return list(_READ_BY_FUNCTIONS[name])
    if config.get("process_docs") is not None:
        return []
    found: set[str] = set()
    for key in ("doc_to_text", "doc_to_target", "doc_to_choice"):
        text = config.get(key)
        if not isinstance(text, str):
            continue
        if "{{" not in text and "{%" not in text:
            # a field's name stands for its value
            found |= {text} if text.isidentifier() else set()
            continue
        try:
            found |= meta.find_undeclared_variables(Environment(autoescape=False).parse(text))
        except TemplateSyntaxError:
            continue
    return sorted(found)


def find_files(data_dir: Path, name: str, splits: Sequence[str]) -> dict[str, Path]:
    """Split -> file, for the splits that are there."""
    found = {}
    for split in splits:
        candidates = [data_dir / name / f"{split}{ending}" for ending in ENDINGS]
        file = next((path for path in candidates if path.is_file()), None)
        if file is not None:
            found[split] = file
    return found


def describe_wanted(data_dir: Path | None, name: str, splits: Sequence[str], fields: Sequence[str]) -> str:
    """A line that says which files a task wants, where, and what is in them."""
    folder = Path("<data_dir>") if data_dir is None else data_dir
    files = " and ".join(str(folder / name / f"{split}.jsonl") for split in splits)
    return f"{name}: {files}" + (f", with the fields {', '.join(fields)}" if fields else "")


def read_documents(file: Path, fields: Sequence[str]) -> list[dict[str, Any]]:
    """The documents in a file, all with these fields; where none are given, with those that the first one has.

    Raises:
        DataError: the file cannot be read, is empty, or a line is no document or lacks a field; names the line.
    """
    try:
        if file.name.endswith(".parquet"):
            documents = datasets.Dataset.from_parquet(str(file), keep_in_memory=True).to_list()
            numbered = list(enumerate(documents, start=1))
        else:
            numbered = _parse(file)
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {file}: {error}") from error
    if not numbered:
        raise DataError(f"{file} holds no documents")
    for line, document in numbered:
        if not isinstance(document, dict):
            raise DataError(f"{file}, line {line}: must be an object with fields, not {type(document).__name__}")
    expected = list(fields or numbered[0][1])
    for line, document in numbered:
        missing = [field for field in expected if field not in document]
        if missing:
            there = ", ".join(document) or "none"
            raise DataError(f"{file}, line {line}: the field {missing[0]} is missing (there are {there})")
    return [document for _, document in numbered]


def _parse(file: Path) -> list[tuple[int, Any]]:
    """Line number and value of each line that is not empty; of a .json file, which is a list, place and value."""
    with gzip.open(file, "rt", encoding="utf-8") if file.suffix == ".gz" else file.open(encoding="utf-8") as lines:
        if ".json" in file.suffixes and ".jsonl" not in file.suffixes:
            try:
                content = json.load(lines)
            except ValueError as error:
                raise DataError(f"{file}: {error}") from None
            if not isinstance(content, list):
                raise DataError(f"{file}: must be a list of documents; one document a line goes into a .jsonl file")
            return list(enumerate(content, start=1))
        documents = []
        for line, text in enumerate(lines, start=1):
            if not text.strip():
                continue
            try:
                documents.append((line, json.loads(text)))
            except ValueError as error:
                raise DataError(f"{file}, line {line}: no JSON: {error}") from None
        return documents


def load_splits(files: Mapping[str, str], fields: Sequence[str], **_: Any) -> dict[str, datasets.Dataset]:
    """What lm-eval takes as a task's data; called by it with the task's `dataset_kwargs` (and metadata)."""
    return {split: datasets.Dataset.from_list(read_documents(Path(file), fields)) for split, file in files.items()}


def sha256_of(files: Mapping[str, Path]) -> str:
    """Of the names and contents of the splits' files, unpacked where they are compressed."""
    digest = hashlib.sha256()
    for split, file in sorted(files.items()):
        content = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
        digest.update(f"{split}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()
