"""Text from local files: plain text, JSON lines and Parquet, compressed or not, all read through `datasets`."""

from __future__ import annotations

import glob
import hashlib
import json
import lzma
import os
import re
import tempfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from rla_exp.data.document import Document
from rla_exp.data.quiet_datasets import quiet_datasets
from rla_exp.errors import DataError

_COMPRESSED = {".gz", ".xz"}
_JSON_LINES = {".jsonl", ".json"}
_TEXT = {".txt", ".md", ".rst"}
_READABLE = ".txt, .md, .rst, .jsonl and .parquet, all but the last also with .gz or .xz behind"
_FEW_TEXT_FILES = 20
_PART_BYTES = 4096
_LINES_AT_ONCE = 4096


def find_files(patterns: Sequence[str], key: str = "data.paths") -> list[Path]:
    """The files of a setting of paths, sorted and without repeats.

    Raises:
        DataError: a pattern that matches nothing, a folder, an empty file, or a kind of file that is not read.
    """
    if not patterns:
        raise DataError(f"{key} is empty: data=files needs files or globs, as {key}=[texts/*.txt]")
    found: set[Path] = set()
    for pattern in patterns:
        expanded = str(Path(pattern).expanduser())
        # a file whose name holds brackets is a file first, a glob second
        # (Path.glob takes no absolute patterns)
        matches = [expanded] if os.path.lexists(expanded) else glob.glob(expanded, recursive=True)  # noqa: PTH207
        if not matches:
            raise DataError(f"{key}: no file matches {pattern} (in {Path.cwd()})")
        if matches != [expanded]:
            matches = [match for match in matches if not Path(match).is_dir()]
        found.update(Path(match).absolute() for match in matches)
    for path in found:
        _check(path, key)
    return sorted(found)


def domain_names(files: Sequence[Path]) -> list[str]:
    """What domains are called: the files' names without their endings, and without a first word that all share.

    Raises:
        DataError: two files would have one name.
    """
    names = [path.name.partition(".")[0] for path in files]
    if not names:
        return []
    first, *others = (re.match(r"[^-_]+[-_]", name) for name in names)
    shared = first is not None and bool(others) and all(word and word[0] == first[0] for word in others)
    short = [name[len(first[0]) :] if shared and first else name for name in names]
    if len(set(short)) < len(short):
        raise DataError(f"data.test_paths: two files have one name ({', '.join(sorted(short))}); rename one of them")
    return short


def _check(path: Path, key: str) -> None:
    if path.is_dir():
        raise DataError(f"{key}: {path} is a folder; name the files in it, as {path}/**/*.txt")
    if _kind(path) is None:
        raise DataError(f"{key}: {path} is of no kind that data=files reads ({_READABLE})")
    try:
        size = path.stat().st_size
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error
    if size == 0:
        raise DataError(f"{path} is empty: remove it or leave it out of {key}")


def _kind(path: Path) -> str | None:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    compressed = bool(suffixes) and suffixes[-1] in _COMPRESSED
    suffix = next(iter(suffixes[-2:-1] if compressed else suffixes[-1:]), "")
    if suffix in _TEXT:
        return "text"
    if suffix in _JSON_LINES:
        return "json lines"
    return "parquet" if suffix == ".parquet" and not compressed else None


def hash_files(files: Sequence[Path], root: Path) -> str:
    """sha256 of the files' names below `root` and contents.

    Raises:
        DataError: a file that cannot be read.
    """
    total = hashlib.sha256()
    for path in files:
        try:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise DataError(f"cannot read {path}: {error.strerror}") from error
        total.update(json.dumps([path.relative_to(root).as_posix(), digest]).encode())
    return total.hexdigest()


def common_root(files: Sequence[Path]) -> Path:
    """The deepest folder that holds all files; names are relative to it, so that a moved corpus stays the same."""
    return Path(os.path.commonpath([path.parent for path in files]))


def file_documents(files: Sequence[Path], text_key: str, test_files: Sequence[Path] = ()) -> Iterator[Document]:
    r"""Documents of the files, in their order, after those of the files of the test split.

    A record of JSON lines or Parquet is a document, named by a hash of its text, so that copies of a text never
    stand on both sides of a split: of one that the test files hold too, only their copy is taken. A text file is a
    document too, with \n for its line ends, whatever they are in the file; of fewer than 20 text files there are too
    few to hold some out, so they are cut at line ends into documents of about 4 KiB, however many records stand
    beside them.

    Raises:
        DataError: a file that cannot be read, with the line where it has lines.
    """
    held_out: set[str] = set()
    for number, file in enumerate(test_files):
        for document in _documents([file], text_key, cut=False):
            held_out.add(record_name(document.text))
            yield document._replace(split="test", domain=number)
    cut = sum(_kind(path) == "text" for path in files) < _FEW_TEXT_FILES
    for document in _documents(files, text_key, cut=cut):
        if not held_out or record_name(document.text) not in held_out:
            yield document


def _documents(files: Sequence[Path], text_key: str, *, cut: bool) -> Iterator[Document]:
    root = common_root(files)
    # datasets leaves its lock files in its cache folder
    with quiet_datasets() as datasets, tempfile.TemporaryDirectory() as scratch:
        for path in files:
            name, kind = path.relative_to(root).as_posix(), _kind(path)
            count = 0
            for document in _read(datasets, path, name, kind, text_key, cut, scratch):
                count += bool(document.text.strip())
                yield document
            if count == 0:
                raise DataError(f"{path} holds no text: remove it or leave it out of data.paths")


def _read(
    datasets: Any, path: Path, name: str, kind: str | None, text_key: str, cut: bool, scratch: str
) -> Iterator[Document]:
    options: dict[str, Any] = {"data_files": glob.escape(str(path)), "cache_dir": scratch}
    options |= {"split": "train", "streaming": True}
    try:
        if kind == "text":
            lines = _lines(datasets, options)
            yield from _parts(name, lines) if cut else [Document(name, "".join(lines))]
        elif kind == "json lines":
            for number, line in enumerate(_lines(datasets, options), start=1):
                # editors on Windows put a byte order mark first
                line = line.removeprefix("\ufeff") if number == 1 else line
                if line.strip():
                    yield _record(_json_text(line, text_key, path, number))
        else:
            for row in datasets.load_dataset("parquet", **options):
                yield _record(_column_text(row, text_key, path))
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 ({error.reason} at byte {error.start} of what was read last)") from error
    # pyarrow's errors are ValueErrors and OSErrors
    except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"cannot read {path}, is it damaged? {type(error).__name__}: {reason}") from error


def _lines(datasets: Any, options: dict[str, Any]) -> Iterator[str]:
    r"""Lines with \n at their ends; by line, for a cell of Arrow holds no text beyond 2 GiB."""
    rows = datasets.load_dataset("text", keep_linebreaks=True, **options)
    # a table at a time takes a fifth of the time of rows
    for table in rows.with_format("arrow").iter(batch_size=_LINES_AT_ONCE):
        yield from table["text"].to_pylist()


def _json_text(line: str, text_key: str, path: Path, number: int) -> str:
    try:
        record = json.loads(line)
    except ValueError as error:
        raise DataError(f"{path}, line {number}: not JSON ({error}); JSON lines hold one object a line") from error
    if not isinstance(record, dict):
        raise DataError(f"{path}, line {number}: holds no object but {type(record).__name__}; one object a line")
    text = record.get(text_key)
    if not isinstance(text, str):
        what = f"is {type(text).__name__}, no string" if text_key in record else "is not there"
        raise DataError(
            f"{path}, line {number}: key {text_key!r} {what} (keys: {', '.join(map(str, record))}); set data.text_key"
        )
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"{path}, line {number}: {text_key!r} holds half a surrogate pair, no Unicode text") from error
    return text


def _column_text(row: dict[str, Any], text_key: str, path: Path) -> str:
    if text_key not in row:
        raise DataError(f"{path}: no column {text_key!r} (columns: {', '.join(row)}); set data.text_key")
    text = row[text_key]
    if text is not None and not isinstance(text, str):
        raise DataError(f"{path}: column {text_key!r} holds {type(text).__name__}, no text; set data.text_key")
    return text or ""


def record_name(text: str) -> str:
    """The name of a text that has none: its hash, the same for every copy."""
    return hashlib.sha256(text.encode()).hexdigest()


def _record(text: str) -> Document:
    return Document(record_name(text), text)


def _parts(name: str, lines: Iterable[str]) -> Iterator[Document]:
    """Put lines together to parts of at least 4096 bytes but for the last."""
    part: list[str] = []
    size = number = 0
    for line in lines:
        part.append(line)
        size += len(line.encode())
        if size >= _PART_BYTES:
            yield Document(f"{name}#{number}", "".join(part))
            part, size, number = [], 0, number + 1
    if part:
        yield Document(f"{name}#{number}", "".join(part))
