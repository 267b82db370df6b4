"""Tokenized corpora on disk: one stream of tokens a split, cached by what went into it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rla_exp.config.schema import TextConfig
from rla_exp.data.batch import SPLITS, CorpusFingerprint, Split
from rla_exp.data.cache import Info, cached_folder, key_of
from rla_exp.data.corpus import Corpus, open_corpus
from rla_exp.data.progress import byte_progress
from rla_exp.data.tokenizer import ByteTokenizer, Tokenizer, load_subword, subword_folder, train_bpe
from rla_exp.errors import DataError

# raise it when the same corpus and tokenizer would give other tokens
_VERSION = 1
_BATCH_BYTES = 4 * 2**20


@dataclass(frozen=True)
class TokenStream:
    """The documents of a split in tokens, one after another, each closed by the end-of-document token."""

    tokens: NDArray[np.unsignedinteger]
    """[n], uint16 or uint32 (memory-mapped)."""
    num_bytes: NDArray[np.uint16]
    """[n]: bytes of text that each token stands for (memory-mapped)."""
    starts: NDArray[np.int64]
    """Where documents begin, ascending."""

    def is_start(self, positions: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether a document begins at each of these positions, of any shape."""
        nearest = np.minimum(np.searchsorted(self.starts, positions), len(self.starts) - 1)
        found: NDArray[np.bool_] = self.starts[nearest] == positions
        return found


@dataclass(frozen=True)
class TokenizedCorpus:
    """All splits in tokens."""

    fingerprint: CorpusFingerprint
    splits: dict[Split, TokenStream]
    tokenizer: Tokenizer
    domains: dict[str, tuple[int, int]]
    """Where each domain's tokens of the test split begin and end; empty where it has no files of its own."""


def open_tokens(config: TextConfig, cache_dir: Path, *, progress: bool = False) -> TokenizedCorpus:
    """Tokenize the corpus of `config` into the cache, unless it is there already, and open it.

    Raises:
        DataError: a corpus or tokenizer that cannot be used.
    """
    corpus = open_corpus(config, cache_dir, progress=progress)
    splits = corpus.split(config.valid_fraction, config.test_fraction)
    parts = {
        "version": _VERSION,
        "corpus": corpus.fingerprint.sha256,
        "valid_fraction": config.valid_fraction,
        "test_fraction": config.test_fraction,
    }
    tokenizer, identity = _tokenizer(config, corpus, splits["train"], parts, cache_dir, progress=progress)
    folder = cache_dir / "tokens" / key_of(tokenizer=identity, **parts)
    dtype = np.dtype(np.uint16 if tokenizer.vocab_size <= 2**16 else np.uint32)

    def build(partial: Path) -> Info:
        for split, documents in splits.items():
            _write_stream(corpus, documents, tokenizer, partial, split, dtype, progress=progress)
        return {}

    cached_folder(folder, build)
    streams = {split: _open_stream(folder, split, dtype) for split in SPLITS}
    return TokenizedCorpus(corpus.fingerprint, streams, tokenizer, _domains(corpus, splits["test"], streams["test"]))


def _domains(corpus: Corpus, documents: NDArray[np.int64], stream: TokenStream) -> dict[str, tuple[int, int]]:
    if corpus.domains is None:
        return {}
    places = np.arange(len(corpus.domain_names) + 1)
    # the documents stand domain by domain
    firsts = np.searchsorted(corpus.domains[documents], places)
    bounds = np.append(stream.starts, len(stream.tokens))[firsts].tolist()
    return dict(zip(corpus.domain_names, pairwise(bounds), strict=True))


def _tokenizer(
    config: TextConfig,
    corpus: Corpus,
    documents: NDArray[np.int64],
    parts: dict[str, Any],
    cache_dir: Path,
    *,
    progress: bool,
) -> tuple[Tokenizer, str]:
    """The tokenizer and what identifies it; a BPE is trained on `documents`, the training split."""
    if config.tokenizer == "bytes":
        return ByteTokenizer(), "bytes"
    if config.tokenizer != "bpe":
        folder = subword_folder(config.tokenizer, cache_dir)
        return load_subword(folder), folder.name
    folder = cache_dir / "tokenizers" / key_of(bpe_vocab_size=config.bpe_vocab_size, **parts)

    def train(partial: Path) -> Info:
        with byte_progress("training the BPE", corpus.num_bytes(documents), shown=progress) as advance:
            texts = (_counted(text, advance) for text in corpus.documents(documents))
            train_bpe(texts, config.bpe_vocab_size, partial)
        return {}

    cached_folder(folder, train)
    return load_subword(folder), folder.name


def _paths(folder: Path, split: Split) -> tuple[Path, Path, Path]:
    return folder / f"{split}.tokens", folder / f"{split}.num_bytes", folder / f"{split}.starts.npy"


def _open_stream(folder: Path, split: Split, dtype: np.dtype[Any]) -> TokenStream:
    tokens, num_bytes, starts = _paths(folder, split)
    # plain arrays over the mapped files: a memmap's own indexing is far slower
    return TokenStream(
        np.memmap(tokens, dtype=dtype, mode="r").view(np.ndarray),
        np.memmap(num_bytes, dtype=np.uint16, mode="r").view(np.ndarray),
        np.load(starts),
    )


def _write_stream(
    corpus: Corpus,
    documents: NDArray[np.int64],
    tokenizer: Tokenizer,
    folder: Path,
    split: Split,
    dtype: np.dtype[Any],
    *,
    progress: bool,
) -> None:
    tokens_path, num_bytes_path, starts_path = _paths(folder, split)
    starts, position = [], 0
    with (
        byte_progress(f"tokenizing {split}", corpus.num_bytes(documents), shown=progress) as advance,
        tokens_path.open("wb") as tokens_file,
        num_bytes_path.open("wb") as num_bytes_file,
    ):
        for texts in _batches(corpus.documents(documents)):
            for encoded in tokenizer.encode(texts):
                if encoded.num_bytes.max() > np.iinfo(np.uint16).max:
                    raise DataError(
                        f"the tokenizer has one token for {encoded.num_bytes.max()} bytes of text: "
                        "it does not know this text's alphabet; take another data.tokenizer"
                    )
                starts.append(position)
                position += len(encoded.tokens)
                tokens_file.write(encoded.tokens.astype(dtype).tobytes())
                num_bytes_file.write(encoded.num_bytes.astype(np.uint16).tobytes())
                advance(int(encoded.num_bytes.sum()))
    np.save(starts_path, np.asarray(starts, dtype=np.int64))


def _counted(text: str, advance: Callable[[int], None]) -> str:
    advance(len(text.encode()))
    return text


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
    """Lists of about 4 MiB of text: enough to keep a tokenizer's threads busy."""
    batch: list[str] = []
    size = 0
    for text in texts:
        batch.append(text)
        size += len(text)
        if size >= _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
