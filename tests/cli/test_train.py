"""The train command: what it runs, what it prints, how it ends."""

import os
import shlex
import sys
from pathlib import Path

import pytest
import yaml

from rla_exp.cli.train import main
from rla_exp.config import compose
from rla_exp.errors import DataError, InterruptedRun


def test_one_run_is_trained_and_told(training, capsys):
    assert main(["model=rla", "ablation=no_clip", "data=mqar", "seed=1"]) == 0
    (composed,) = training.trained
    assert composed.resolved == compose(["model=rla", "ablation=no_clip", "data=mqar", "seed=1"]).resolved
    (file,) = Path("runs").rglob("result.json")
    assert capsys.readouterr().out == f"done: {file}\n  test/accuracy 0.25\n"


def test_a_run_leaves_nothing_but_its_folder(training):
    main(["seed=1"])
    assert [path.name for path in Path().iterdir()] == ["runs"]
    assert [path.name for path in Path("runs").iterdir()] == ["default"]


def test_a_finished_run_is_said_to_be_finished(training, capsys):
    main(["seed=1"])
    (file,) = Path("runs").rglob("result.json")
    os.utime(file, (0, 0))
    capsys.readouterr()
    assert main(["seed=1"]) == 0
    assert capsys.readouterr().out.startswith(f"finished before: {file}\n")


def test_wrong_settings_end_with_their_message_alone(training, capsys):
    assert main(["modle=rdn", "model.clpi=1"]) == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err == (
        "2 problems with the configuration:\n"
        "  - modle=rdn: there is no setting modle; did you mean model=rdn?\n"
        "  - model.clpi=1: there is no setting model.clpi; did you mean model.clip?\n"
    )
    assert training.trained == []


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (DataError("notes.txt is empty"), 1, "notes.txt is empty\n"),
        (InterruptedRun("stopped at step 3"), 130, "stopped at step 3\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
    ],
)
def test_what_a_user_can_mend_has_no_traceback(training, capsys, error, code, message):
    training.error = error
    assert main([]) == code
    assert capsys.readouterr().err == message


def test_a_fault_of_ours_is_not_hidden(training):
    training.error = ZeroDivisionError("ours")
    with pytest.raises(ZeroDivisionError):
        main([])


def test_cfg_shows_every_setting_with_its_meaning(capsys):
    assert main(["--cfg", "job", "model=rla", "ablation=no_residual", "data=stdlib_docs"]) == 0
    printed = capsys.readouterr().out
    assert yaml.safe_load(printed) == compose(["model=rla", "ablation=no_residual", "data=stdlib_docs"]).resolved
    assert "  d_model: 64                     # Width of the residual stream.\n" in printed
    assert "  clip: 1.0                       # (no effect here)\n" in printed
    assert max(len(line) for line in printed.splitlines()) <= 120


@pytest.mark.parametrize(
    ("arguments", "printed"),
    [
        (["--cfg", "-p", "paths.runs"], "runs\n"),
        (["--cfg", "job", "--package", "trainer.threads", "trainer.threads=3"], "3\n"),
        (["-c", "optim.lr=1e-3", "-p", "optim.lr"], "0.001\n"),
    ],
)
def test_cfg_shows_a_part(capsys, arguments, printed):
    assert main(arguments) == 0
    assert capsys.readouterr().out == printed


def test_cfg_names_a_part_that_is_not_there(capsys):
    assert main(["--cfg", "job", "-p", "optm"]) == 1
    assert capsys.readouterr().err.endswith("  - --package optm: there is no such part; did you mean optim?\n")


def test_help_shows_groups_options_and_examples(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["scripts/train.py"])
    assert main(["--help"]) == 0
    printed = capsys.readouterr().out
    assert "\n  * rdn " in printed
    assert "\n    no_clip             The residual is not clipped\n" in printed
    assert "python scripts/train.py model=rdn ablation=no_clip data=mqar seed=1\n" in printed
    assert max(len(line) for line in printed.splitlines()) <= 120


def test_the_examples_of_help_compose(capsys, monkeypatch, problems_of):
    monkeypatch.setattr(sys, "argv", ["rla-train"])
    main(["--help"])
    lines = capsys.readouterr().out.split("Examples\n")[1].split("\n\n")[0].splitlines()
    assert len(lines) == 5
    for line in lines:
        assert problems_of(shlex.split(line)[1:]) == []


@pytest.mark.parametrize("arguments", [["--info", "defaults", "model=rla"], ["--info", "searchpath"], ["--hydra-help"]])
def test_hydras_own_information_is_there(capsys, arguments):
    assert main(arguments) == 0
    assert "conf" in capsys.readouterr().out


def test_hydras_information_checks_settings_first(capsys):
    assert main(["--info", "modle=rla"]) == 1
    assert "did you mean model=rla?" in capsys.readouterr().err


def test_completion_knows_options(capfd, monkeypatch):
    monkeypatch.setenv("COMP_LINE", "rla-train model=r")
    monkeypatch.setenv("COMP_POINT", "17")
    assert main(["--shell-completion", "query=bash"]) == 0
    assert capfd.readouterr().out.split() == ["model=rdn", "model=retnet", "model=rla"]
