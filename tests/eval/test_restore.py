"""A model comes back from its run's folder alone, or an error says what is missing."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from rla_exp.errors import RunError
from rla_exp.eval.restore import load_run


def test_text_run_comes_back(text_run: Path, tmp_path: Path) -> None:
    # from another place, without the corpus and the cache
    moved = tmp_path / "moved"
    shutil.copytree(text_run, moved)
    run = load_run(moved)
    assert (run.step, run.train_length) == (4, 32)
    assert run.tokenizer is not None
    assert run.tokenizer.vocab_size == run.vocab_size == run.model.vocab_size
    text = "Document 3 says what"
    assert run.tokenizer.decode(run.tokenizer.encode([text])[0].tokens.tolist()) == text
    saved = torch.load(run.checkpoint, weights_only=True)["state_dict"]
    for name, parameter in run.model.named_parameters():
        assert torch.equal(parameter, saved[f"model.{name}"])
    assert not run.model.training


def test_mqar_run_comes_back(mqar_run: Path) -> None:
    run = load_run(mqar_run)
    assert run.tokenizer is None
    assert run.train_length == 16


def test_missing_run_names_runs_nearby(text_run: Path) -> None:
    with pytest.raises(RunError, match=r"there is no such folder") as error:
        load_run(text_run.parent / "seed7")
    assert str(text_run) in str(error.value)
    with pytest.raises(RunError, match=r"it has no config\.yaml"):
        load_run(text_run.parent)


def test_missing_checkpoint_names_those_there(text_run: Path) -> None:
    with pytest.raises(RunError, match=r"checkpoint=best: no such checkpoint .*: there are last$"):
        load_run(text_run, "best")
    assert load_run(text_run, text_run / "checkpoints" / "last.ckpt").step == 4


def test_damaged_or_foreign_checkpoint(text_run: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.ckpt"
    damaged.write_bytes((text_run / "checkpoints" / "last.ckpt").read_bytes()[:1000])
    with pytest.raises(RunError, match="cannot read checkpoint"):
        load_run(text_run, damaged)
    foreign = tmp_path / "foreign.ckpt"
    torch.save({"state_dict": {"model.other": torch.zeros(1)}, "global_step": 1}, foreign)
    with pytest.raises(RunError, match=r"of another model.*\n(.*\n)*.*other"):
        load_run(text_run, foreign)
