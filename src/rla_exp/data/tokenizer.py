"""Tokenizers: bytes, a BPE trained here, or any that the `tokenizers` library reads. None runs foreign code."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import tokenizers
from numpy.typing import NDArray
from tokenizers import decoders, models, pre_tokenizers, trainers

from rla_exp.data.cache import Info, cached_folder, key_of
from rla_exp.errors import DataError, InterruptedRun

END = "<|endoftext|>"
_FILE = "tokenizer.json"
_CONFIG_FILE = "tokenizer_config.json"
# what a tokenizer is made of, in the forms that the hub knows; weights and code are not fetched
_HUB_FILES = [_FILE, _CONFIG_FILE, "vocab.*", "merges.txt", "added_tokens.json", "*.model"]


class Encoded(NamedTuple):
    """A document in tokens, closed by the end-of-document token."""

    tokens: NDArray[np.int64]
    """[n + 1]"""
    num_bytes: NDArray[np.int64]
    """[n + 1]: bytes of the text that each token stands for; they sum to the document's bytes."""


class Tokenizer(Protocol):
    """Text to tokens and back."""

    @property
    def vocab_size(self) -> int:
        """Tokens are in [0, vocab_size)."""
        ...

    @property
    def end(self) -> int:
        """The token that closes every document."""
        ...

    def encode(self, texts: Sequence[str]) -> list[Encoded]:
        """Each text's tokens and their bytes."""
        ...

    def decode(self, tokens: Sequence[int]) -> str:
        """Text of the tokens, without ends of documents."""
        ...

    def save(self, folder: Path) -> None:
        """Write what `load_subword` reads into `folder`; bytes write nothing."""
        ...


class ByteTokenizer:
    """UTF-8 itself: tokens 0 to 255 are bytes, 256 ends a document."""

    vocab_size = 257
    end = 256

    def encode(self, texts: Sequence[str]) -> list[Encoded]:
        return [self._encode(text.encode()) for text in texts]

    def _encode(self, text: bytes) -> Encoded:
        tokens = np.full(len(text) + 1, self.end, dtype=np.int64)
        tokens[:-1] = np.frombuffer(text, dtype=np.uint8)
        num_bytes = np.ones_like(tokens)
        num_bytes[-1] = 0
        return Encoded(tokens, num_bytes)

    def decode(self, tokens: Sequence[int]) -> str:
        return bytes(token for token in tokens if token != self.end).decode(errors="replace")

    def save(self, folder: Path) -> None:  # noqa: ARG002
        return


class SubwordTokenizer:
    """A tokenizer of the `tokenizers` library, whose threads encode a batch of documents side by side."""

    def __init__(self, file: Path) -> None:
        """Read a tokenizer.json; a tokenizer_config.json beside it may name its end-of-text token.

        Raises:
            DataError: not a tokenizer.
        """
        try:
            self._tokenizer = tokenizers.Tokenizer.from_file(str(file))
        except InterruptedRun:
            raise
        # the library raises plain Exception for every fault of a file
        except Exception as error:
            raise DataError(f"data.tokenizer: {file} is no tokenizer of the `tokenizers` library: {error}") from error
        self._file = file
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        # special tokens spelled out in a text are text
        self._tokenizer.encode_special_tokens = True
        size = max(self._tokenizer.get_vocab(with_added_tokens=True).values()) + 1
        named = self._tokenizer.token_to_id(_end_token(file.parent / _CONFIG_FILE))
        # a vocabulary without an end gets one more token
        self.end: int = size if named is None else named
        self.vocab_size: int = max(size, self.end + 1)

    def encode(self, texts: Sequence[str]) -> list[Encoded]:
        encodings = self._tokenizer.encode_batch(list(texts), add_special_tokens=False)
        return [self._encode(text, encoding) for text, encoding in zip(texts, encodings, strict=True)]

    def _encode(self, text: str, encoding: tokenizers.Encoding) -> Encoded:
        count = len(encoding.ids)
        tokens = np.full(count + 1, self.end, dtype=np.int64)
        tokens[:-1] = encoding.ids
        # a token answers for the bytes from the end of the one before to its own end; what none covers (dropped
        # white space, say) goes to the next, in the end to the end of the document
        char_ends = np.fromiter((end for _, end in encoding.offsets), dtype=np.int64, count=count)
        byte_ends = np.empty(count + 1, dtype=np.int64)
        byte_ends[:-1] = np.maximum.accumulate(_byte_positions(text)[char_ends])
        byte_ends[-1] = len(text.encode())
        return Encoded(tokens, np.diff(byte_ends, prepend=0))

    def decode(self, tokens: Sequence[int]) -> str:
        return str(self._tokenizer.decode([token for token in tokens if token != self.end], skip_special_tokens=False))

    def to_json(self) -> str:
        """The content of its tokenizer.json."""
        return str(self._tokenizer.to_str())

    def save(self, folder: Path) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for file in (self._file, self._file.with_name(_CONFIG_FILE)):
                if file.is_file():
                    (folder / (_FILE if file == self._file else file.name)).write_bytes(file.read_bytes())
        except OSError as error:
            raise DataError(f"cannot write the tokenizer to {folder}: {error.strerror or error}") from error


def _byte_positions(text: str) -> NDArray[np.int64]:
    """[len(text) + 1]: the byte of UTF-8 at which each character begins, then the number of bytes."""
    code_points = np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)
    widths = 1 + (code_points > 0x7F) + (code_points > 0x7FF).astype(np.int64) + (code_points > 0xFFFF)
    return np.concatenate(([0], np.cumsum(widths)))


def _end_token(config_file: Path) -> str:
    if not config_file.is_file():
        return END
    try:
        token = json.loads(config_file.read_text(encoding="utf-8")).get("eos_token")
    except (OSError, ValueError, AttributeError) as error:
        raise DataError(f"data.tokenizer: cannot read {config_file}: {error}") from error
    if isinstance(token, dict):
        token = token.get("content")
    return token if isinstance(token, str) else END


def train_bpe(texts: Iterable[str], vocab_size: int, folder: Path) -> None:
    """Train a byte-level BPE and write it to `folder`; small corpora may fill less than `vocab_size`.

    Args:
        vocab_size: at least 257, for the bytes and the end of a document.
    """
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.save(str(folder / _FILE))


def subword_folder(name: str, cache_dir: Path) -> Path:
    """The folder in the cache that holds the tokenizer `name`: a tokenizer.json, its folder, or a name of the hub.

    A tokenizer of the hub is fetched once; from then on no network is needed.

    Raises:
        DataError: there is none of that name, or it cannot be fetched or read.
    """
    local = Path(name).expanduser()
    if local.exists():
        files = _local_files(local)
        key = key_of(tokenizer=[[path.name, hashlib.sha256(_read(path)).hexdigest()] for path in files])
    elif name.startswith((".", "/", "~")) or name.endswith(".json") or name.count("/") > 1:
        raise DataError(f"data.tokenizer={name}: no such file or folder; or take bytes, bpe or a name of the hub")
    else:
        key = key_of(tokenizer=name)

    def build(partial: Path) -> Info:
        for path in _local_files(local) if local.exists() else _fetch(name):
            (partial / path.name).write_bytes(_read(path))
        if not (partial / _FILE).is_file():
            _convert(partial, name)
        return {}

    folder = cache_dir / "tokenizers" / key
    cached_folder(folder, build)
    return folder


def load_subword(folder: Path) -> SubwordTokenizer:
    """The tokenizer in a folder of the cache."""
    return SubwordTokenizer(folder / _FILE)


def _local_files(local: Path) -> list[Path]:
    if local.is_file():
        beside = local.with_name(_CONFIG_FILE)
        return [local, beside] if beside.is_file() else [local]
    files = sorted({path for pattern in _HUB_FILES for path in local.glob(pattern) if path.is_file()})
    if not files:
        raise DataError(f"data.tokenizer={local}: the folder holds no {_FILE}")
    return files


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"data.tokenizer: cannot read {path}: {error.strerror}") from error


def _fetch(name: str) -> list[Path]:
    from huggingface_hub import snapshot_download

    try:
        return _local_files(Path(snapshot_download(name, allow_patterns=_HUB_FILES)))
    except InterruptedRun:
        raise
    # errors of httpx and of the hub's client, which share no base class
    except Exception as error:
        reason = str(error).splitlines()[0].rstrip(".") if str(error) else "no reason given"
        raise DataError(
            f"data.tokenizer={name}: cannot fetch it from the hub: {type(error).__name__}: {reason}. Without a "
            "network take data.tokenizer=bytes or bpe, or the folder of a tokenizer copied from elsewhere"
        ) from error


def _convert(folder: Path, name: str) -> None:
    """Write the tokenizer.json of a tokenizer that comes in an older form."""
    try:
        from transformers import AutoTokenizer
    except ImportError as error:
        raise DataError(
            f"data.tokenizer={name} has no {_FILE}; converting it needs: pip install 'rla_exp[hub]'"
        ) from error
    try:
        loaded = AutoTokenizer.from_pretrained(str(folder), trust_remote_code=False)
        loaded.backend_tokenizer.save(str(folder / _FILE))
    except InterruptedRun:
        raise
    # whatever transformers meets in foreign files
    except Exception as error:
        raise DataError(f"data.tokenizer={name}: transformers makes no fast tokenizer of it: {error}") from error
