"""Jobs of a fake training."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path

import pytest

from rla_exp.sweep import Job


@pytest.fixture
def make_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Job]:
    """make_job("a", do="raise") is the job of a fake run in tmp_path/a."""
    # workers import the module by its name
    monkeypatch.syspath_prepend(Path(__file__).parent)
    module = importlib.import_module("fake_training")
    return lambda name, **settings: module.make_job(tmp_path / name, **settings)
