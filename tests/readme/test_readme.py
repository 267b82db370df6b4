"""The README's commands do what it says: each is run as written, with folders of its own and fewer steps."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from rla_exp.cli.flags import parse_flags
from rla_exp.config import compose, compose_sweep

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
RECIPES = re.findall(r"^python (scripts/.+)$", README, flags=re.MULTILINE)
TRAINING = [recipe for recipe in RECIPES if recipe.startswith("scripts/train.py") and "--cfg" not in recipe]

# what makes a recipe quick without changing what it exercises
SHORT = [
    "trainer.max_steps=2",
    "optim.warmup_steps=0",
    "trainer.log_every=1",
    "data.eval_batch_size=64",
]


def _run(words: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
        stdin=subprocess.DEVNULL,
    )


@pytest.mark.parametrize("recipe", TRAINING)
def test_a_recipe_composes_as_it_is_written(recipe):
    flags = parse_flags(shlex.split(recipe)[1:])
    assert (compose_sweep if flags.multirun else compose)(flags.overrides)


def test_every_kind_of_recipe_is_there():
    assert len(TRAINING) == 5
    assert len(RECIPES) == 7


@pytest.mark.slow
@pytest.mark.parametrize("recipe", TRAINING)
def test_a_training_recipe_trains(recipe, tmp_path):
    words = [word for word in shlex.split(recipe) if not word.startswith("trainer.max_steps=")]
    given = {word.split("=")[0] for word in words}
    extra = [word for word in SHORT if word.split("=")[0] not in given]
    done = _run([*words, *extra, f"paths.runs={tmp_path}"], tmp_path)
    assert done.returncode == 0, done.stderr
    results = list(tmp_path.glob("*/*/seed*/result.json"))
    expected = 2 * 2 * 3 if "--multirun" in recipe else 1
    assert len(results) == expected


def test_the_settings_recipe_prints_every_section():
    (recipe,) = [recipe for recipe in RECIPES if "--cfg" in recipe]
    done = _run(shlex.split(recipe), ROOT)
    assert done.returncode == 0, done.stderr
    for section in ("model:", "data:", "optim:", "trainer:", "logger:", "paths:"):
        assert section in done.stdout


@pytest.mark.slow
def test_the_table_recipe_writes_a_table(tmp_path):
    (recipe,) = [recipe for recipe in RECIPES if recipe.startswith("scripts/table.py")]
    done = _run([*shlex.split(recipe), f"runs={tmp_path / 'runs'}", f"results={tmp_path / 'results'}"], tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    folder = tmp_path / "results" / "ablation" / "smoke"
    names = {"table.md", "table.csv", "table.tex", "figure.png", "figure.svg", "cells.json", "environment.json"}
    assert {path.name for path in folder.iterdir()} == names
    assert (folder / "table.md").read_text(encoding="utf-8").strip() in done.stdout


def test_the_python_example_runs():
    (example,) = re.findall(r"```python\n(.+?)```", README, flags=re.DOTALL)
    names: dict[str, object] = {}
    exec(compile(example, "README.md", "exec"), names)
    assert tuple(names["o"].shape) == (2, 100, 4, 32)


@pytest.mark.parametrize("target", ["reproduce-table", "test", "setup", "test-gpu"])
def test_make_knows_the_target(target):
    done = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(([^)#]+)\)", README))))
def test_a_link_leads_somewhere(link):
    if not link.startswith("https://"):
        assert (ROOT / link).exists(), link


def test_the_table_shown_is_the_committed_one():
    table = (ROOT / "results" / "ablation" / "cpu" / "table.md").read_text(encoding="utf-8")
    # the first table of the file; another one with the intervals follows
    rows = [line for line in table.partition("\nScale ")[0].splitlines() if line.startswith("|")]
    assert len(rows) == 2 + 14
    assert "\n".join(rows) in README
