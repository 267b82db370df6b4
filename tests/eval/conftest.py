"""A text run and an MQAR run, trained for a few steps."""

from __future__ import annotations

from pathlib import Path

import pytest

from rla_exp.config import compose
from rla_exp.eval.restore import LoadedRun, load_run
from rla_exp.lit import train_run
from rla_exp.lit.place import find_place


def train(folder: Path, overrides: list[str]) -> Path:
    """The folder of a run that was trained with these overrides."""
    composed = compose(
        [
            f"paths.runs={folder / 'runs'}",
            f"paths.cache={folder / 'cache'}",
            "size=tiny",
            "trainer=cpu",
            "trainer.max_steps=4",
            "trainer.progress=false",
            "optim.warmup_steps=0",
            *overrides,
        ]
    )
    train_run(composed)
    return find_place(composed).folder.path


def text_overrides(folder: Path, *more: str) -> list[str]:
    """Settings of a run on small text files that are written to `folder`."""
    for number in range(40):
        text = f"Document {number} says what document {number - 1} did not say in the garden. " * 8
        (folder / f"{number}.txt").write_text(text, encoding="utf-8")
    small = ["data.batch_size=4", "data.eval_batch_size=8", "data.seq_len=32"]
    return ["data=files", f"data.paths=[{folder}/*.txt]", *small, *more]


@pytest.fixture(scope="session")
def text_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of residual fitting over a byte-pair vocabulary; do not write to its folder."""
    folder = tmp_path_factory.mktemp("text")
    return train(folder, text_overrides(folder, "model=rdn", "data.tokenizer=bpe", "data.bpe_vocab_size=300"))


@pytest.fixture(scope="session")
def mqar_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of key-value pairs; do not write to its folder."""
    small = [
        f"data.{split}=[{{length: 16, num_pairs: 2, num_examples: 24}}, {{length: 16, num_pairs: 4, num_examples: 24}}]"
        for split in ("train", "valid", "test")
    ]
    return train(tmp_path_factory.mktemp("mqar"), ["model=rla", "data=mqar", "data.batch_size=8", *small])


@pytest.fixture
def loaded(text_run: Path, tmp_path: Path) -> LoadedRun:
    """The text run, in a folder of its own that may be written to."""
    copy = tmp_path / "run"
    copy.mkdir()
    for name in ("config.yaml", "checkpoints", "tokenizer", "status.json"):
        (copy / name).symlink_to(text_run / name)
    return load_run(copy)
