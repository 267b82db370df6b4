"""Local files: every kind and compression is read alike, and every fault names its file."""

from __future__ import annotations

import gzip
import json
import lzma

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rla_exp.data.files import file_documents, find_files
from rla_exp.errors import DataError

TEXTS = ["first text\nof two lines", "café ☕", "third: 🜂\n", "{not json}"]


def write(path, content: bytes) -> None:
    compress = {".gz": gzip.compress, ".xz": lzma.compress}.get(path.suffix, bytes)
    path.write_bytes(compress(content))


def read(*patterns, text_key="text"):
    return [document.text for document in file_documents(find_files([str(p) for p in patterns]), text_key)]


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz", ".jsonl.xz", ".json"])
def test_json_lines(tmp_path, suffix):
    path = tmp_path / f"data{suffix}"
    lines = [json.dumps({"n": i, "body": text}) for i, text in enumerate(TEXTS)]
    write(path, "\n".join([*lines[:2], "", *lines[2:]]).encode())
    assert read(path, text_key="body") == TEXTS


def test_parquet(tmp_path):
    path = tmp_path / "data.parquet"
    pq.write_table(pa.table({"n": [1, 2, 3, 4, 5], "text": [*TEXTS, None]}), path)
    assert [text for text in read(path) if text] == TEXTS


@pytest.mark.parametrize("suffix", [".txt", ".txt.gz", ".txt.xz"])
def test_a_text_file_is_a_document_where_there_are_twenty(tmp_path, suffix):
    for i in range(20):
        write(tmp_path / f"{i:02}{suffix}", f"{TEXTS[i % 4]} {i}\n".encode() * 400)
    documents = list(file_documents(find_files([f"{tmp_path}/*{suffix}"]), "text"))
    assert [document.name for document in documents] == [f"{i:02}{suffix}" for i in range(20)]
    assert [document.text for document in documents] == [f"{TEXTS[i % 4]} {i}\n" * 400 for i in range(20)]


def test_few_text_files_are_cut_at_line_ends(tmp_path):
    text = "".join(f"line {i} of a long file\n" for i in range(2000)) + "the end without a line end"
    (tmp_path / "long.txt").write_text(text)
    documents = list(file_documents(find_files([str(tmp_path / "long.txt")]), "text"))
    assert "".join(document.text for document in documents) == text
    assert [document.name for document in documents] == [f"long.txt#{i}" for i in range(len(documents))]
    assert all(4096 <= len(document.text) < 4096 + 30 for document in documents[:-1])
    assert all(document.text.endswith("\n") for document in documents[:-1])
    assert len(documents) > 10


def test_globs_are_sorted_recursive_and_without_repeats(tmp_path):
    (tmp_path / "b" / "c").mkdir(parents=True)
    for name in ("z.txt", "b/y.txt", "b/c/x.txt", "b/[odd] name.txt"):
        (tmp_path / name).write_text(name)
    found = find_files([f"{tmp_path}/**/*.txt", f"{tmp_path}/z.txt", f"{tmp_path}/b/[odd] name.txt"])
    assert [path.relative_to(tmp_path).as_posix() for path in found] == [
        "b/[odd] name.txt",
        "b/c/x.txt",
        "b/y.txt",
        "z.txt",
    ]
    assert read(f"{tmp_path}/b/[odd] name.txt") == ["b/[odd] name.txt"]


def test_nothing_is_printed(tmp_path, capfd):
    (tmp_path / "a.txt").write_text("text")
    write(tmp_path / "bad.txt.gz", b"text")
    (tmp_path / "bad.txt.gz").write_bytes((tmp_path / "bad.txt.gz").read_bytes()[:-6])
    assert read(tmp_path / "a.txt") == ["text"]
    with pytest.raises(DataError):
        read(tmp_path / "bad.txt.gz")
    assert capfd.readouterr() == ("", "")


def test_a_pattern_without_files_is_named(tmp_path):
    with pytest.raises(DataError, match=r"data\.paths: no file matches .*/none\*\.txt"):
        find_files([f"{tmp_path}/none*.txt"])
    with pytest.raises(DataError, match=r"data\.paths: .* is a folder; name the files in it"):
        find_files([str(tmp_path)])
    (tmp_path / "table.csv").write_text("a,b")
    with pytest.raises(
        DataError, match=r"table\.csv is of no kind that data=files reads \(\.txt, \.md, \.rst, \.jsonl and"
    ):
        find_files([f"{tmp_path}/table.csv"])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.txt", b"", r"empty\.txt is empty"),
        ("blank.txt", b" \n\n", r"blank\.txt holds no text"),
        ("blank.txt.gz", gzip.compress(b"", mtime=0), r"blank\.txt\.gz holds no text"),
        ("latin.txt", "café au lait".encode("latin-1"), r"latin\.txt is not UTF-8 \(invalid continuation byte"),
        ("cut.txt.gz", gzip.compress(b"some text" * 9, mtime=0)[:-12], r"cannot read .*cut\.txt\.gz, is it damaged\?"),
        ("fake.txt.gz", b"no gzip at all", r"cannot read .*fake\.txt\.gz, is it damaged\?"),
        ("cut.txt.xz", lzma.compress(b"some text" * 9)[:-20], r"cannot read .*cut\.txt\.xz, is it damaged\?"),
        ("bad.parquet", b"PAR1 and nothing more", r"cannot read .*bad\.parquet, is it damaged\?"),
        ("r.jsonl", b'{"text": "a"}\n{"body": "b"}\n', r"r\.jsonl, line 2: key 'text' is not there \(keys: body\)"),
        ("r.jsonl", b'{"text": "a"}\n\n{"text": 7}\n', r"r\.jsonl, line 3: key 'text' is int, no string"),
        ("r.jsonl", b'{"text": "a"}\n{"text": "b"\n', r"r\.jsonl, line 2: not JSON"),
        ("r.json", b'[{"text": "a"}]', r"r\.json, line 1: holds no object but list"),
        ("r.jsonl", b'{"text": "\\ud800"}', r"r\.jsonl, line 1: 'text' holds half a surrogate pair"),
        ("r.jsonl", b'{"text": ""}\n', r"r\.jsonl holds no text"),
        ("r.jsonl.gz", gzip.compress(b'{"text": "caf\xe9"}', mtime=0), r"r\.jsonl\.gz is not UTF-8"),
    ],
)
def test_a_fault_names_its_file(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        read(tmp_path / name)


def test_a_parquet_file_without_the_column_names_what_it_has(tmp_path):
    pq.write_table(pa.table({"n": [1], "body": ["text"]}), tmp_path / "t.parquet")
    with pytest.raises(DataError, match=r"t\.parquet: no column 'text' \(columns: n, body\); set data\.text_key"):
        read(tmp_path / "t.parquet")
    with pytest.raises(DataError, match=r"t\.parquet: column 'n' holds int, no text"):
        read(tmp_path / "t.parquet", text_key="n")


def test_records_beside_few_text_files_do_not_keep_them_whole(tmp_path):
    for i in range(19):
        (tmp_path / f"{i:02}.jsonl").write_text(json.dumps({"text": f"record {i}"}) + "\n")
    text = "thirty bytes of text in a line\n" * 1250
    (tmp_path / "notes.txt").write_text(text)
    documents = list(file_documents(find_files([f"{tmp_path}/*.jsonl", f"{tmp_path}/*.txt"]), "text"))
    assert [document.text for document in documents[:19]] == [f"record {i}" for i in range(19)]
    assert [document.name for document in documents[19:]] == [f"notes.txt#{i}" for i in range(10)]
    assert "".join(document.text for document in documents[19:]) == text


@pytest.mark.parametrize("suffix", [".txt", ".md", ".rst", ".TXT", ".md.gz", ".rst.xz"])
def test_text_keeps_all_but_the_form_of_its_line_ends(tmp_path, suffix):
    write(tmp_path / f"text{suffix}", "\ufeffWindows\r\nold Mac\rUnix\n\n form\x0cfeed\u2028no end ☕".encode())
    assert read(tmp_path / f"text{suffix}") == ["\ufeffWindows\nold Mac\nUnix\n\n form\x0cfeed\u2028no end ☕"]


@pytest.mark.parametrize("suffix", [".txt", ".txt.gz"])
def test_a_line_end_is_one_where_blocks_are_read_meet(tmp_path, suffix):
    # lines of 7 bytes put line ends at every offset of the blocks of 8 KiB that are read, and end the 10 MiB that are
    # decoded at once within a line
    write(tmp_path / f"text{suffix}", b"seven\r\n" * 2_000_000)
    assert "".join(read(tmp_path / f"text{suffix}")) == "seven\n" * 2_000_000


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz"])
def test_json_lines_may_open_with_a_byte_order_mark(tmp_path, suffix):
    write(tmp_path / f"r{suffix}", '\ufeff{"text": "first"}\r\n{"text": "a\\r\\nb"}\r\n'.encode())
    assert read(tmp_path / f"r{suffix}") == ["first", "a\r\nb"]
    write(tmp_path / f"r{suffix}", '{"text": "first"}\n\ufeff{"text": "second"}\n'.encode())
    with pytest.raises(DataError, match=r"line 2: not JSON"):
        read(tmp_path / f"r{suffix}")
