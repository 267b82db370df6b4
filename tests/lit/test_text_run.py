"""A run on text files, from bytes to bits per byte."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from rla_exp.config import Composed
from rla_exp.config.schema import TextConfig
from rla_exp.lit import train_run


@pytest.mark.parametrize("document_boundaries", [False, True])
def test_text_run(make_run: Callable[..., Composed], tmp_path: Path, document_boundaries: bool) -> None:
    for number in range(40):
        (tmp_path / f"{number}.txt").write_text(f"Document {number} says what document {number - 1} did not. " * 3)
    data = TextConfig(
        kind="text",
        name="files",
        source="files",
        batch_size=4,
        eval_batch_size=4,
        seq_len=32,
        document_boundaries=document_boundaries,
        valid_fraction=0.2,
        test_fraction=0.2,
        paths=[str(tmp_path / "*.txt")],
    )
    config = replace(make_run(max_steps=3, accumulate=2, diagnostics_every=2).config, data=data)
    result = train_run(Composed(config, asdict(config), []))
    assert set(result.metrics) == {
        *(f"{split}/{name}" for split in ("valid", "test") for name in ("loss", "perplexity", "bits_per_byte")),
        "parameters",
        "state_bytes",
    }
    loss = result.metrics["test/loss"]
    assert 3.0 < loss < 7.0
    assert result.metrics["test/perplexity"] == pytest.approx(math.exp(loss))
    # a token is a byte here, or the end of a document, which is worth none
    assert loss / math.log(2) <= result.metrics["test/bits_per_byte"] < 1.1 * loss / math.log(2)
    assert result.provenance["corpus_bytes"] == sum(file.stat().st_size for file in tmp_path.glob("*.txt"))
    assert len(result.provenance["corpus_sha256"]) == 64


def test_domains_and_longer_sequences(make_run: Callable[..., Composed], tmp_path: Path) -> None:
    for number in range(40):
        (tmp_path / f"{number}.txt").write_text(f"Document {number} says what document {number - 1} did not. " * 3)
    (tmp_path / "test-plain.md").write_text("Document 41 says what document 40 did not. " * 9)
    (tmp_path / "test-strange.md").write_text("".join(chr(0x4E00 + 37 * i) for i in range(150)))
    data = TextConfig(
        kind="text",
        name="files",
        source="files",
        batch_size=4,
        eval_batch_size=4,
        seq_len=32,
        valid_fraction=0.2,
        paths=[str(tmp_path / "*.txt")],
        test_paths=[str(tmp_path / "*.md")],
        test_lengths=[64],
    )
    config = replace(make_run(max_steps=30).config, data=data)
    metrics = train_run(Composed(config, asdict(config), [])).metrics
    assert {name for name in metrics if "@" in name} == {
        "test/bits_per_byte@plain",
        "test/bits_per_byte@strange",
        "test/loss@64",
        "test/bits_per_byte@64",
    }
    plain, strange, both = (metrics[f"test/bits_per_byte{end}"] for end in ("@plain", "@strange", ""))
    # bytes that training never showed
    assert plain < 7.0 < strange
    weights = [(tmp_path / f"test-{name}.md").stat().st_size - 1 for name in ("plain", "strange")]
    # every byte but a file's first is scored; its end is too, and stands for none
    assert both == pytest.approx((plain * weights[0] + strange * weights[1]) / sum(weights), rel=1e-6)
    # the same text with fewer beginnings
    assert metrics["test/bits_per_byte@64"] == pytest.approx(both, rel=0.05)
    assert metrics["test/loss@64"] != metrics["test/loss"]
