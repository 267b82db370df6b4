"""Self-checks of the fused kernels, and tiles that were timed, reach environment.json."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rla_exp.lit.callbacks import SelfChecks, self_checks
from rla_exp.runs import RunFolder


def test_are_written_when_there_are_new_ones(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.write_environment(["model=rdn"], "cpu", resumes=False)
    checks: list[dict[str, Any]] = []
    monkeypatch.setattr(self_checks, "self_checks", lambda: list(checks))
    callback = SelfChecks(folder)

    callback.on_validation_batch_end()
    assert "self_checks" not in (folder.read_environment() or {})
    checks.append({"gpu": "H100", "failures": [], "errors": {"65": {"o": 1e-3}}})
    callback.on_validation_batch_end()
    checks.append({"gpu": "H100", "failures": ["o 1e-02 > 5e-03"], "errors": {}})
    callback.on_test_batch_end()
    environment = folder.read_environment()
    assert environment is not None
    assert environment["self_checks"] == checks
    assert environment["overrides"] == ["model=rdn"]

    assert "tuned_tiles" not in environment
    choices = [{"gpu": "H100", "chosen": {"forward": 3}}]
    monkeypatch.setattr(self_checks, "tuned_tiles", lambda: list(choices))
    callback.on_train_batch_end(*[None] * 5)  # type: ignore[arg-type]
    environment = folder.read_environment()
    assert environment is not None
    assert (environment["tuned_tiles"], environment["self_checks"]) == (choices, checks)

    (tmp_path / "environment.json").unlink()
    callback.on_test_batch_end()
    assert not (tmp_path / "environment.json").exists()
