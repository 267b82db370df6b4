"""Text that every Python brings along: its standard library's documentation and code.

Nothing is imported: sources are read and parsed, so that no module runs and the order is always the same.
"""

from __future__ import annotations

import ast
import io
import os
import sysconfig
import tokenize
import warnings
from collections.abc import Iterator
from pathlib import Path

from rla_exp.data.document import Document
from rla_exp.errors import DataError

# tests, what installers add, an editor, generated tables of character sets, and prose that is not code
_LEFT_OUT = {
    "site-packages",
    "dist-packages",
    "__pycache__",
    "test",
    "tests",
    "idlelib",
    "lib2to3",
    "turtledemo",
    "ensurepip",
    "lib-dynload",
    "encodings",
    "pydoc_data",
}
_TOPICS = Path("pydoc_data") / "topics.py"
_LONG = 200
"""Characters from which a docstring counts as prose."""


def stdlib_root() -> Path:
    """Folder of the running Python's standard library."""
    return Path(sysconfig.get_path("stdlib"))


def stdlib_files(source: str) -> list[Path]:
    """The files that `source` (stdlib_docs or stdlib_code) is made of, sorted by their path in the library.

    Raises:
        DataError: this Python comes without its library's sources.
    """
    root = stdlib_root()
    files = []
    for folder, subfolders, names in os.walk(root):
        # pruned in place, so that the walk leaves them out
        subfolders[:] = [name for name in subfolders if not _left_out(name)]
        files += [Path(folder, name) for name in names if name.endswith(".py") and not _left_out(name)]
    if source == "stdlib_docs" and (root / _TOPICS).is_file():
        files.append(root / _TOPICS)
    if not files:
        raise DataError(
            f"data.source={source}: {root} holds no Python sources; use a Python that ships them, or data=files"
        )
    return sorted(files, key=lambda path: path.relative_to(root).as_posix())


def stdlib_documents(source: str) -> Iterator[Document]:
    """Documents of `source`: a file of code each; or a file's long docstrings each, and every topic of pydoc.

    Documents are held out by name, and the library says some things twice. Of stdlib_docs with Python 3.11.7 and
    the default fractions, paragraphs of 200 characters or more that also stand in training text are 522 of the
    52,433 bytes of the validation split (1.0 %; docstrings of importlib) and 5,771 of the 80,937 bytes of the test
    split (7.1 %; pydoc's topic typesseq repeats typesseq-mutable), 8.8 % of the 65,536 that the preset scores. So
    compare models on them, whose share is the same, and do not take their bits per byte for those of unseen prose.
    """
    root = stdlib_root()
    for path in stdlib_files(source):
        name = path.relative_to(root).as_posix()
        code = _read_source(path)
        if source == "stdlib_code":
            yield Document(name, code)
        elif path == root / _TOPICS:
            yield from _topics(name, code)
        else:
            yield Document(name, "\n\n".join(_long_docstrings(name, code)))


def _left_out(name: str) -> bool:
    # _sysconfigdata and config- hold the machine's build settings
    return name in _LEFT_OUT or name.startswith(("config-", "_sysconfigdata"))


def _read_source(path: Path) -> str:
    try:
        raw = path.read_bytes()
        encoding, _ = tokenize.detect_encoding(io.BytesIO(raw).readline)
        return io.TextIOWrapper(io.BytesIO(raw), encoding).read()
    except (OSError, SyntaxError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {path} of the standard library: {error}") from error


def _parse(name: str, code: str) -> ast.Module:
    with warnings.catch_warnings():
        # invalid escapes in the library's strings are its own affair
        warnings.simplefilter("ignore")
        try:
            return ast.parse(code)
        except SyntaxError as error:
            raise DataError(f"cannot parse {name} of the standard library: {error}") from error


def _long_docstrings(name: str, code: str) -> Iterator[str]:
    """Docstrings of a module, its classes and functions, in the order in which they stand."""
    pending: list[ast.AST] = [_parse(name, code)]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            docstring = ast.get_docstring(node)
            if docstring is not None and len(docstring) >= _LONG:
                yield docstring
        # expressions hold no docstrings and are most of the tree
        children = [c for c in ast.iter_child_nodes(node) if isinstance(c, ast.stmt | ast.excepthandler)]
        pending.extend(reversed(children))


def _topics(name: str, code: str) -> Iterator[Document]:
    """One document a topic: the file assigns one dict of strings."""
    for node in _parse(name, code).body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict):
            for topic, text in sorted(ast.literal_eval(node.value).items()):
                yield Document(f"{name}:{topic}", text)
