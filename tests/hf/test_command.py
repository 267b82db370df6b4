"""`rla-export` and `check_evaluation.py` on runs that were trained for a few steps."""

from __future__ import annotations

import ast
import json
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer

from rla_exp.cli import check_evaluation
from rla_exp.cli.export import KEYS, main
from rla_exp.config import compose
from rla_exp.eval.restore import load_run
from rla_exp.lit.train import train_run
from rla_exp.runs import RunFolder

SOURCES = Path(__file__).parents[2] / "src" / "rla_exp"
WEIGHTS = ["config.json", "generation_config.json", "model.safetensors"]
TOKENIZER = ["tokenizer.json", "tokenizer_config.json"]


def _train(folder, *overrides):
    composed = compose(
        [
            "trainer.max_steps=2",
            "optim.warmup_steps=0",
            "trainer.progress=false",
            "trainer.accelerator=cpu",
            "data.batch_size=2",
            f"paths.runs={folder}",
            f"paths.cache={folder / 'cache'}",
            *overrides,
        ]
    )
    return RunFolder.of(composed.config, train_run(composed).provenance["identity"]).path


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Folders of runs: a recurrent model on bytes, a transformer on a BPE, a model without text."""
    folder = tmp_path_factory.mktemp("runs")
    for number in range(30):
        (folder / f"{number}.txt").write_text(f"Document {number} says nothing else. " * 10, encoding="utf-8")
    text = [
        "data=files",
        f"data.paths=[{folder}/*.txt]",
        "data.valid_fraction=0.3",
        "data.test_fraction=0.3",
        "data.seq_len=32",
        "data.max_eval_tokens=64",
    ]
    mqar = [f"data.{split}=[{{length:16,num_pairs:2,num_examples:4}}]" for split in ("train", "valid", "test")]
    return {
        "rdn": _train(folder, "model=rdn", *text),
        "transformer": _train(folder, "model=transformer", "data.tokenizer=bpe", "data.bpe_vocab_size=260", *text),
        "mqar": _train(folder, "model=rla", "data=mqar", *mqar),
    }


@pytest.mark.parametrize("name", ["rdn", "transformer"])
@torch.no_grad()
def test_a_text_model_with_its_tokenizer(runs, tmp_path, capsys, name):
    out = tmp_path / "new" / "exported"
    assert main([f"run={runs[name]}", f"out={out}"]) == 0
    assert str(out / "model.safetensors") in capsys.readouterr().out
    assert sorted(file.name for file in out.iterdir()) == WEIGHTS + TOKENIZER
    loaded = load_run(runs[name])
    model, tokenizer = AutoModelForCausalLM.from_pretrained(out), AutoTokenizer.from_pretrained(out)
    ids = tokenizer("Document 3 says", return_tensors="pt").input_ids
    assert ids[0].tolist() == loaded.tokenizer.encode(["Document 3 says"])[0].tokens[:-1].tolist()
    torch.testing.assert_close(model(ids).logits, loaded.model(ids), rtol=0, atol=1e-5)
    generation = model.generation_config
    assert generation.eos_token_id == generation.pad_token_id == generation.bos_token_id == loaded.tokenizer.end
    # only a transformer's positions are bound to the length that it was trained on
    assert model.config.max_position_embeddings == (32 if name == "transformer" else None)
    config = json.loads((out / "config.json").read_text(encoding="utf-8"))
    assert "auto_map" not in config
    assert config["provenance"] == {
        "experiment": "default",
        "ablation": "full",
        "data": "files",
        "seed": 0,
        "step": 2,
        "checkpoint_sha256": loaded.checkpoint_sha256,
    }


def test_a_matrix_that_is_tied_is_stored_once(runs, tmp_path):
    loaded = load_run(runs["rdn"])
    tied = loaded.model.output is None
    out = tmp_path / "exported"
    assert main([f"run={runs['rdn']}", f"out={out}"]) == 0
    with safe_open(out / "model.safetensors", framework="pt") as file:
        names = set(file.keys())
    assert names == {f"model.{name}" for name in loaded.model.state_dict()}
    assert ("model.output.weight" in names) != tied


@torch.no_grad()
def test_a_model_without_text_has_no_tokenizer(runs, tmp_path):
    out = tmp_path / "empty"
    out.mkdir()
    assert main([f"run={runs['mqar']}", f"out={out}", "checkpoint=last"]) == 0
    assert sorted(file.name for file in out.iterdir()) == WEIGHTS
    model = AutoModelForCausalLM.from_pretrained(out)
    ids = torch.arange(12)[None]
    torch.testing.assert_close(model(ids).logits, load_run(runs["mqar"]).model(ids), rtol=0, atol=1e-5)
    assert model.generation_config.eos_token_id is None


def test_every_missing_setting_is_named_at_once(capsys):
    assert main([]) == 1
    message = capsys.readouterr().err
    assert "run: nothing sets it; write run=" in message
    assert "out: nothing sets it; write out=" in message
    assert main(["rum=x"]) == 1
    assert "did you mean run?" in capsys.readouterr().err


def test_the_help_has_every_setting(capsys):
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(f"  {name}" in text for name in KEYS)


def test_a_missing_run_or_checkpoint_leaves_nothing_behind(runs, tmp_path, capsys):
    out = tmp_path / "exported"
    assert main([f"run={tmp_path}/none", f"out={out}"]) == 1
    assert f"run={tmp_path}/none: there is no such folder" in capsys.readouterr().err
    assert main([f"run={runs['rdn']}", f"out={out}", "checkpoint=best"]) == 1
    assert "checkpoint=best: no such checkpoint" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_holds_something_is_left_alone(runs, tmp_path, capsys):
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    assert main([f"run={runs['rdn']}", f"out={tmp_path}"]) == 1
    assert "the folder is not empty" in capsys.readouterr().err
    assert [file.name for file in tmp_path.iterdir()] == ["notes.txt"]


def test_a_place_that_cannot_be_written_is_named(runs, tmp_path, capsys):
    (tmp_path / "file").write_text("", encoding="utf-8")
    for out in (tmp_path / "file" / "exported", tmp_path / "file"):
        assert main([f"run={runs['rdn']}", f"out={out}"]) == 1
        assert f"out={out}: cannot be written" in capsys.readouterr().err
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


def test_without_transformers_the_command_says_what_to_install(runs, tmp_path, capsys, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("rla_exp.hf")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "transformers", None)
    assert main([f"run={runs['rdn']}", f"out={tmp_path / 'exported'}"]) == 1
    assert "pip install 'rla_exp[hf]'" in capsys.readouterr().err


def test_our_evaluation_is_that_of_the_export(runs, capsys):
    assert check_evaluation.main([f"run={runs['rdn']}", "window=40", "limit=2", "batch_size=2"]) == 0
    said = capsys.readouterr().out
    rows = [line.strip("| ").split(" | ") for line in said.splitlines() if line.startswith("| smoke_")]
    assert len(rows) == 4
    for row in rows:
        assert row[3] == "-" or float(row[3]) < 1e-5
        assert row[5] == "0"


def test_an_evaluation_that_differs_is_an_error(runs, capsys, monkeypatch):
    monkeypatch.setattr(check_evaluation, "TOLERANCE", 0.0)
    assert check_evaluation.main([f"run={runs['rdn']}", "window=40", "limit=2", "tasks=smoke_document"]) == 1
    assert "nats a token apart on average: smoke_document" in capsys.readouterr().err


def test_a_check_needs_a_run(capsys):
    assert check_evaluation.main(["window=8"]) == 1
    assert "run: nothing sets it; write run=RUN_DIR" in capsys.readouterr().err
    assert check_evaluation.main(["run=x", "window=0"]) == 1
    assert "window is '0'; allowed: a whole number from 1 on" in capsys.readouterr().err


def test_no_other_room_needs_transformers():
    for path in SOURCES.rglob("*.py"):
        body = ast.parse(path.read_text(encoding="utf-8")).body
        modules = [node.module or "" for node in body if isinstance(node, ast.ImportFrom)]
        modules += [alias.name for node in body if isinstance(node, ast.Import) for alias in node.names]
        needed = [module for module in modules if module.split(".")[0] == "transformers" or module == "rla_exp.hf"]
        assert not needed or path.parent.name == "hf", path
