"""The standard library as a corpus: its size, its order, and that nothing of it runs."""

from __future__ import annotations

import ast
import json
import platform
import sys
from pathlib import Path

import pytest

from rla_exp.data import build_data
from rla_exp.data.stdlib import stdlib_documents, stdlib_files, stdlib_root
from rla_exp.errors import DataError


def test_code_is_the_library_without_tests_and_tables():
    documents = {document.name: document.text for document in stdlib_documents("stdlib_code")}
    assert list(documents) == sorted(documents)
    assert documents["json/decoder.py"] == Path(json.decoder.__file__).read_text(encoding="utf-8")
    assert not [name for name in documents if name.startswith(("test/", "encodings/", "site-packages/", "pydoc_data/"))]
    # 8.8 MB with Python 3.11.7; versions differ by little
    assert 6e6 < sum(len(text.encode()) for text in documents.values()) < 12e6


def test_docstrings_come_in_the_order_of_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr("rla_exp.data.stdlib.stdlib_root", lambda: tmp_path)

    def long(name):
        return f"{name} {'word ' * 40}end"

    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "skipped.py").write_text(f'"""{long("a test")}"""')
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").write_text("raise SystemExit  # nothing is run")
    (tmp_path / "module.py").write_text(
        f'''"""{long("module")}"""
if True:
    class A:
        """{long("class")}
            indented
        """
        async def method(self):
            """{long("method")}"""
        def short(self):
            "short"
try:
    pass
except ImportError:
    def fallback():
        """{long("fallback")}"""
def last():
    """{long("last")}"""
'''
    )
    module, package = stdlib_documents("stdlib_docs")
    assert (module.name, package.name) == ("module.py", "package/__init__.py")
    assert package.text == ""
    expected = [long("module"), f"{long('class')}\nindented", long("method"), long("fallback"), long("last")]
    assert module.text.split("\n\n") == expected


def test_docs_are_long_docstrings_and_topics():
    modules = set(sys.modules)
    documents = {document.name: document.text for document in stdlib_documents("stdlib_docs")}
    assert set(sys.modules) == modules
    topics = ast.literal_eval(
        next(
            node.value
            for node in ast.parse((stdlib_root() / "pydoc_data" / "topics.py").read_text(encoding="utf-8")).body
            if isinstance(node, ast.Assign)
        )
    )
    found = {name.split(":")[1]: text for name, text in documents.items() if name.startswith("pydoc_data/")}
    assert found == topics
    assert len(topics) > 50
    assert json.JSONEncoder.__doc__.split("\n")[0] in documents["json/encoder.py"]
    # 1.7 MB with Python 3.11.7; versions differ by little
    assert 1.3e6 < sum(len(text.encode()) for text in documents.values()) < 2.5e6


def test_a_build_from_the_library(text_config, tmp_path):
    data = build_data(text_config(source="stdlib_docs", max_eval_tokens=320), seed=0, cache_dir=tmp_path)
    assert data.fingerprint.python_version == platform.python_version()
    batch = data.train_batch(0)
    assert batch.tokens.shape == (4, 32)
    # one byte a token but for ends of documents
    assert batch.num_bytes == int((batch.labels < 256).sum())
    assert data.num_eval_batches("valid") == 4
    again = build_data(text_config(source="stdlib_docs", max_eval_tokens=320), seed=0, cache_dir=tmp_path)
    assert again.fingerprint == data.fingerprint


def test_a_python_without_sources_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr("rla_exp.data.stdlib.stdlib_root", lambda: tmp_path)
    with pytest.raises(DataError, match=r"data\.source=stdlib_code: .* holds no Python sources; .* data=files"):
        stdlib_files("stdlib_code")


def test_faulty_sources_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr("rla_exp.data.stdlib.stdlib_root", lambda: tmp_path)
    (tmp_path / "odd.py").write_text("def")
    assert [document.text for document in stdlib_documents("stdlib_code")] == ["def"]
    with pytest.raises(DataError, match=r"cannot parse odd\.py of the standard library"):
        list(stdlib_documents("stdlib_docs"))
    (tmp_path / "odd.py").write_bytes(b"# coding: utf-8\nx = '\xe9'\n")
    with pytest.raises(DataError, match=r"cannot read .*odd\.py of the standard library"):
        list(stdlib_documents("stdlib_code"))
