"""`rla-generate` on a run that was trained for a few steps."""

from __future__ import annotations

import json

import pytest

from rla_exp.cli.generate import KEYS, main
from rla_exp.config import compose
from rla_exp.lit.train import train_run
from rla_exp.runs import RunFolder


def _train(folder, *overrides):
    composed = compose(
        [
            "trainer.max_steps=2",
            "optim.warmup_steps=0",
            "trainer.log_every=1",
            "trainer.progress=false",
            "trainer.accelerator=cpu",
            f"paths.runs={folder}",
            f"paths.cache={folder / 'cache'}",
            *overrides,
        ]
    )
    result = train_run(composed)
    return RunFolder.of(composed.config, result.provenance["identity"]).path


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Folders of runs, by model."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "text.txt").write_text("A text that is there to be read. " * 200, encoding="utf-8")
    (folder / "more.txt").write_text("Some more of it, held out or not. " * 200, encoding="utf-8")
    text = [
        "data=files",
        f"data.paths=[{folder}/*.txt]",
        "data.valid_fraction=0.3",
        "data.test_fraction=0.3",
        "data.seq_len=32",
        "data.batch_size=2",
        "data.max_eval_tokens=64",
    ]
    for number in range(30):
        (folder / f"{number}.txt").write_text(f"Document {number} says nothing else. " * 10, encoding="utf-8")
    mqar = [f"data.{split}=[{{length:16,num_pairs:2,num_examples:4}}]" for split in ("train", "valid", "test")]
    return {
        "rdn": _train(folder, "model=rdn", *text),
        "transformer": _train(folder, "model=transformer", *text),
        "mqar": _train(folder, "model=rla", "data=mqar", "data.batch_size=2", *mqar),
    }


def _said(capsys, *arguments):
    code = main(["device=cpu", *arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_text_goes_to_stdout_and_notes_to_stderr(runs, capsys):
    arguments = [f"run={runs['rdn']}", "prompt=A text", "max_new_tokens=5"]
    code, out, err = _said(capsys, *arguments)
    assert code == 0
    assert out.endswith("\n")
    assert "5 tokens" in err
    assert "max_new_tokens reached" in err
    assert _said(capsys, *arguments)[1] == out


def test_a_seed_repeats_what_is_drawn(runs, capsys):
    arguments = [f"run={runs['rdn']}", "prompt=A text", "max_new_tokens=30", "temperature=1", "top_k=50", "top_p=0.95"]
    texts = [_said(capsys, *arguments, f"seed={seed}")[1] for seed in (0, 0, 1)]
    assert texts[0] == texts[1] != texts[2]


def test_prompts_of_a_file_are_answered_in_lines_of_json(runs, capsys, tmp_path):
    (tmp_path / "prompts.txt").write_text("A text\n\nSome more of it, held\n", encoding="utf-8")
    run = f"run={runs['rdn']}"
    code, out, _ = _said(capsys, run, f"prompts={tmp_path / 'prompts.txt'}", "max_new_tokens=8")
    assert code == 0
    answers = [json.loads(line) for line in out.splitlines()]
    assert [answer["prompt"] for answer in answers] == ["A text", "", "Some more of it, held"]
    alone = _said(capsys, run, "prompt=Some more of it, held", "max_new_tokens=8")[1]
    assert answers[2]["text"] == alone.removesuffix("\n")


def test_a_prompt_is_read_once(runs, capsys, tmp_path):
    run, state = f"run={runs['rdn']}", tmp_path / "state.safetensors"
    code, out, err = _said(capsys, run, "prompt=A text that", f"save_state={state}", "max_new_tokens=0")
    assert (code, out) == (0, "")
    assert "11 tokens read" in err
    went_on = _said(capsys, run, f"state={state}", "prompt= is there", "max_new_tokens=8")[1]
    assert went_on == _said(capsys, run, "prompt=A text that is there", "max_new_tokens=8")[1]
    (tmp_path / "prompt.txt").write_text("A text that is there", encoding="utf-8")
    assert went_on == _said(capsys, run, f"prompt_file={tmp_path / 'prompt.txt'}", "max_new_tokens=8")[1]
    code, _, err = _said(capsys, f"run={runs['transformer']}", f"state={state}")
    assert code == 1
    assert "written by another model" in err


def test_a_transformer_beyond_its_training_warns_and_writes(runs, capsys, caplog):
    code, out, _ = _said(capsys, f"run={runs['transformer']}", f"prompt={'A text. ' * 10}", "max_new_tokens=4")
    assert code == 0
    assert len(out) >= 2
    assert ["a prompt of 80 tokens goes beyond the 32 tokens" in message for message in caplog.messages] == [True]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["prompt=x"], ["run is not set"]),
        (["run=nowhere"], ["run=nowhere: there is no such folder"]),
        (["run={mqar}"], ["was trained on MQAR"]),
        (["run={rdn}", "promt=x"], ["there is no setting promt", "did you mean prompt"]),
        (["run={rdn}", "top_k=3", "seed=1"], ["2 problems", "top_k=3: has no effect", "seed=1: has no effect"]),
        (["run={rdn}", "max_new_tokens=0"], ["max_new_tokens=0: does nothing without save_state"]),
        (["run={rdn}", "prompts=none.txt"], ["prompts=none.txt: cannot read it"]),
        (
            ["run={rdn}", "prompts=a", "prompt=b", "save_state=c"],
            ["2 problems", "prompt and prompts: only", "one prompt"],
        ),
        (["run={rdn}", "prompt_file=none.txt"], ["prompt_file=none.txt: cannot read it"]),
        (["run={rdn}", "state=none"], ["cannot read the state none"]),
        (["run={rdn}", 'stop=["a", 3]'], ["stop is '[\"a\", 3]'"]),
        (["run={rdn}", "checkpoint=first"], ["checkpoint=first: no such checkpoint", "last"]),
    ],
)
def test_bad_settings(arguments, expected, runs, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    code, out, err = _said(capsys, *[argument.format(**runs) for argument in arguments])
    assert (code, out) == (1, "")
    for words in expected:
        assert words in err


def test_help_names_every_setting(capsys):
    assert main(["--help"]) == 0
    said = capsys.readouterr().out
    assert all(f"\n  {name} " in said for name in KEYS)
