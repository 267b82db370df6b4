"""Configurations of text and small corpora for the tests of data."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rla_exp.config.schema import TextConfig


@pytest.fixture
def text_config() -> Callable[..., TextConfig]:
    """A configuration of text from files; keywords replace its settings."""

    def make(*paths: Path | str, **settings: Any) -> TextConfig:
        defaults: dict[str, Any] = {
            "source": "files",
            "paths": [str(path) for path in paths],
            "batch_size": 4,
            "eval_batch_size": 3,
            "seq_len": 32,
        }
        return TextConfig(kind="text", name="files", **(defaults | settings))

    return make


@pytest.fixture
def records() -> list[str]:
    """60 texts of 60 to 130 bytes that share no stretch of 32; some characters take several bytes."""
    digests = [hashlib.sha256(bytes([i])).hexdigest() for i in range(60)]
    return [f"Record {i}: café ☕ 🜂 {digest[: 30 + i % 35]}\n{digest[::-2]}" for i, digest in enumerate(digests)]


@pytest.fixture
def jsonl(tmp_path: Path, records: list[str]) -> Path:
    """The records as JSON lines."""
    path = tmp_path / "corpus" / "records.jsonl"
    path.parent.mkdir()
    path.write_text("".join(json.dumps({"id": i, "text": text}) + "\n" for i, text in enumerate(records)))
    return path
