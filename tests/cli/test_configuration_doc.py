"""The commands and messages of docs/configuration.md are true."""

import re
import shlex

import pytest

from rla_exp.cli.train import main
from rla_exp.config import conf_dir
from rla_exp.config.run_identity import LEFT_OUT

TEXT = (conf_dir().parent / "docs" / "configuration.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^python scripts/train\.py (.+)$", TEXT, flags=re.MULTILINE)


def test_there_are_commands():
    assert len(COMMANDS) == 6


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_composes(command, problems_of):
    assert problems_of(shlex.split(command)) == []


def test_the_error_is_what_is_printed(capsys):
    command, message = re.search(
        r"^\$ python scripts/train\.py (.+)\n((?:.+\n)+)```$", TEXT, flags=re.MULTILINE
    ).groups()
    assert main(shlex.split(command)) == 1
    assert capsys.readouterr().err == message


def test_what_the_identity_leaves_out_is_named():
    for name in LEFT_OUT:
        assert f"`{name.rsplit('.', 1)[-1]}`" in TEXT.split("## Identity")[1]
