"""Jobs of a fake training."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path

import pytest

from rla_exp.sweep import Job
from rla_exp.sweep.worker import Target


@pytest.fixture
def target(monkeypatch: pytest.MonkeyPatch) -> Target:
    """What a worker runs instead of a training; it must be importable by name in another process."""
    monkeypatch.syspath_prepend(Path(__file__).parent)
    return importlib.import_module("fake_training").run


@pytest.fixture
def make_job(tmp_path: Path) -> Callable[..., Job]:
    """make_job("a", do="raise") is the job of tmp_path/a."""

    def make(name: str, *, device_type: str = "cpu", **settings: object) -> Job:
        folder = tmp_path / name
        overrides = (f"folder={folder}", *(f"{key}={value}" for key, value in settings.items()))
        retry = "retry_failed" in settings
        return Job(overrides=overrides, folder=folder, device_type=device_type, retry_failed=retry, label=name)

    return make
