"""A corpus on disk: the documents of any source as one file of UTF-8, read once and identified by content."""

from __future__ import annotations

import hashlib
import platform
from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rla_exp.config.schema import TextConfig
from rla_exp.data.batch import SPLITS, CorpusFingerprint, Split
from rla_exp.data.cache import Info, cached_folder, key_of
from rla_exp.data.document import Document
from rla_exp.data.files import common_root, domain_names, file_documents, find_files, hash_files
from rla_exp.data.hub import hub_documents
from rla_exp.data.progress import byte_progress
from rla_exp.data.stdlib import stdlib_documents, stdlib_files, stdlib_root
from rla_exp.errors import DataError

# raise a source's when the same input would give other documents
_VERSIONS = {"hub": 1, "files": 3, "stdlib_docs": 1, "stdlib_code": 1}
_TEXT, _ENDS, _HASHES, _FIXED = "text.utf8", "ends.npy", "hashes.npy", "fixed.npy"
# only where the test split has files of its own
_DOMAINS = "domains.npy"
_HASH_RANGE = 2**64


@dataclass(frozen=True)
class Corpus:
    """Documents of a source, in its order."""

    fingerprint: CorpusFingerprint
    text: NDArray[np.uint8]
    """UTF-8 of all documents, one after another (memory-mapped)."""
    ends: NDArray[np.int64]
    """[n]: byte behind each document."""
    hashes: NDArray[np.uint64]
    """[n]: of each document's name."""
    fixed: NDArray[np.int8]
    """[n]: the split that the source gave, as its place in SPLITS; -1 where it gave none."""
    domain_names: tuple[str, ...] = ()
    """Of the files of the test split, where it has files of its own."""
    domains: NDArray[np.int16] | None = None
    """[n]: place in domain_names of each document; -1 for those of other splits."""

    def documents(self, indices: NDArray[np.int64]) -> Iterator[str]:
        """Texts of the documents with these indices."""
        for index in indices.tolist():
            start = int(self.ends[index - 1]) if index else 0
            yield self.text[start : int(self.ends[index])].tobytes().decode()

    def num_bytes(self, documents: NDArray[np.int64]) -> int:
        """Bytes of the documents with these indices."""
        sizes = np.diff(self.ends, prepend=0)
        return int(sizes[documents].sum())

    def split(self, valid_fraction: float, test_fraction: float) -> dict[Split, NDArray[np.int64]]:
        """Indices of the documents of each split, which share none.

        Documents whose hash lies in the lowest `valid_fraction` of all hashes are for validation, those in the next
        `test_fraction` for the test, at least one document each; a document therefore stays where it is when others
        come or go. Held-out documents are in the order of their hashes, so that a cap takes a fair sample of them.
        A test split with files of its own is theirs, by domain, and the share of validation is that of the others.

        Raises:
            DataError: too few documents.
        """
        order = np.argsort(self.hashes, kind="stable").astype(np.int64)
        if self.domains is not None:
            others = order[self.fixed[order] < 0]
            ordered = self.hashes[others].astype(np.float64) / _HASH_RANGE
            to_valid = max(1, int(np.searchsorted(ordered, valid_fraction)))
            valid, train = others[:to_valid], others[to_valid:]
            own = order[self.fixed[order] >= 0]
            test = own[np.argsort(self.domains[own], kind="stable")]
        elif (self.fixed >= 0).all():
            train, valid, test = (order[self.fixed[order] == number] for number in range(len(SPLITS)))
        else:
            ordered = self.hashes[order].astype(np.float64) / _HASH_RANGE
            to_valid = max(1, int(np.searchsorted(ordered, valid_fraction)))
            to_test = max(to_valid + 1, int(np.searchsorted(ordered, valid_fraction + test_fraction)))
            valid, test, train = order[:to_valid], order[to_valid:to_test], order[to_test:]
        parts: dict[Split, NDArray[np.int64]] = {"train": np.sort(train), "valid": valid, "test": test}
        for name, part in parts.items():
            if part.size == 0:
                raise DataError(
                    f"the corpus has {len(self.ends)} documents, none is left for the {name} split: "
                    "give more or longer files, or lower data.valid_fraction and data.test_fraction"
                )
        return parts


def open_corpus(config: TextConfig, cache_dir: Path, *, progress: bool = False) -> Corpus:
    """Read the source of `config` into the cache, unless it is there already, and open it.

    Raises:
        DataError: a source that cannot be read or holds no text.
    """
    folder, info = _cached(config, cache_dir, progress=progress)
    has_domains = bool(config.test_paths)
    return Corpus(
        fingerprint=CorpusFingerprint(**info),
        text=np.memmap(folder / _TEXT, dtype=np.uint8, mode="r"),
        ends=np.load(folder / _ENDS),
        hashes=np.load(folder / _HASHES),
        fixed=np.load(folder / _FIXED),
        domain_names=tuple(domain_names(_test_files(config))),
        domains=np.load(folder / _DOMAINS) if has_domains else None,
    )


def text_fingerprint(config: TextConfig, cache_dir: Path) -> CorpusFingerprint:
    """The fingerprint alone; reads the source where the cache does not have it yet."""
    return CorpusFingerprint(**_cached(config, cache_dir, progress=False)[1])


def _cached(config: TextConfig, cache_dir: Path, *, progress: bool) -> tuple[Path, Info]:
    folder = cache_dir / "corpora" / _source_key(config)

    def build(partial: Path) -> Info:
        with byte_progress(f"reading {config.name}", config.max_bytes, shown=progress) as advance:
            documents = _bounded(_documents(config, progress=progress), config)
            return asdict(_write(documents, partial, advance=advance))

    return folder, cached_folder(folder, build)


def _source_key(config: TextConfig) -> str:
    """Names what is read: by content for local files, by name for the hub."""
    common = {"version": _VERSIONS[config.source], "max_bytes": config.max_bytes}
    if config.source == "hub":
        keys = ("hub_name", "hub_config", "hub_revision", "text_key", "streaming", "valid_fraction", "test_fraction")
        return key_of(**common, **{key: getattr(config, key) for key in keys})
    if config.source == "files":
        files, test = find_files(config.paths), _test_files(config)
        # what is held out has a root of its own, so that either may be moved
        own = {"test": hash_files(test, common_root(test))} if test else {}
        return key_of(**common, text_key=config.text_key, content=hash_files(files, common_root(files)), **own)
    content = hash_files(stdlib_files(config.source), stdlib_root())
    return key_of(**common, source=config.source, python=platform.python_version(), content=content)


def _documents(config: TextConfig, *, progress: bool) -> Iterator[Document]:
    if config.source == "hub":
        return hub_documents(config, show_progress=progress)
    if config.source == "files":
        return file_documents(find_files(config.paths), config.text_key, _test_files(config))
    return stdlib_documents(config.source)


def _test_files(config: TextConfig) -> list[Path]:
    return find_files(config.test_paths, "data.test_paths") if config.test_paths else []


def _bounded(documents: Iterator[Document], config: TextConfig) -> Iterator[Document]:
    """Documents with text in them, until `max_bytes`; the last is cut there."""
    # the hub's reader counts for itself, since its splits have bounds of their own
    left = None if config.source == "hub" else config.max_bytes
    for document in documents:
        if not document.text.strip():
            continue
        # a test split of its own is read whole
        if left is None or document.domain is not None:
            yield document
            continue
        encoded = document.text.encode()[:left]
        # a character cut in two is left out
        yield document._replace(text=encoded.decode(errors="ignore"))
        left -= len(encoded)
        if left <= 0:
            return


def _write(documents: Iterable[Document], folder: Path, *, advance: Callable[[int], None]) -> CorpusFingerprint:
    """Write the files of a Corpus; the sha256 covers names, splits and texts, each with its length."""
    digest = hashlib.sha256()
    ends, hashes, fixed, domains = array("q"), array("Q"), array("b"), array("h")
    total = 0
    with (folder / _TEXT).open("wb") as file:
        for document in documents:
            name, text = document.name.encode(), document.text.encode()
            number = -1 if document.split is None else SPLITS.index(document.split)
            place = str(number) if document.domain is None else f"{number}/{document.domain}"
            digest.update(f"{len(name)} {len(text)} {place} ".encode() + name)
            digest.update(text)
            file.write(text)
            total += len(text)
            ends.append(total)
            hashes.append(int.from_bytes(hashlib.sha256(name).digest()[:8], "big"))
            fixed.append(number)
            domains.append(-1 if document.domain is None else document.domain)
            advance(len(text))
    if total == 0:
        raise DataError("the corpus holds no text: check data.paths, data.text_key and data.max_bytes")
    np.save(folder / _ENDS, np.frombuffer(ends, dtype=np.int64))
    np.save(folder / _HASHES, np.frombuffer(hashes, dtype=np.uint64))
    np.save(folder / _FIXED, np.frombuffer(fixed, dtype=np.int8))
    if max(domains) >= 0:
        np.save(folder / _DOMAINS, np.frombuffer(domains, dtype=np.int16))
    return CorpusFingerprint(digest.hexdigest(), total, platform.python_version())
