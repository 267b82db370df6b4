"""The commands of docs/generation.md are written as the commands read them."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from rla_exp.cli import decoding_cost, generate, plot
from rla_exp.cli.key_values import read_key_values

DOC = (Path(__file__).parents[2] / "docs" / "generation.md").read_text(encoding="utf-8")
COMMANDS = {"generate": generate.KEYS, "decoding_cost": decoding_cost.KEYS, "plot": plot.KEYS}
LINES = [
    line
    for line in re.findall(r"^python scripts/(\w+\.py.+|\w+\.py)$", DOC, flags=re.MULTILINE)
    if line.partition(".py")[0] not in ("evaluate", "train")
]


def test_every_command_is_shown():
    assert {line.partition(".py")[0] for line in LINES} == set(COMMANDS)


@pytest.mark.parametrize("line", LINES)
def test_a_command_is_read(line):
    name, words = line.split(".py", 1)
    assert read_key_values(shlex.split(words), COMMANDS[name]) is not None


def test_every_task_is_described():
    from rla_exp.eval.niah import NEEDLE_TASKS

    assert re.findall(r"^\| `(needle_\w+)` \|", DOC, flags=re.MULTILINE) == list(NEEDLE_TASKS)
