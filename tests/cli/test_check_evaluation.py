"""The comparison with lm-eval's own adapter fails where the two differ."""

from __future__ import annotations

from pathlib import Path

import pytest

from rla_exp.cli import check_evaluation
from rla_exp.cli.check_evaluation import CheckSettings, check
from rla_exp.errors import UserError
from rla_exp.eval.agreement import TaskAgreement


def agreement(task: str, num_tokens: int, difference: float, num_other_answers: int) -> TaskAgreement:
    return TaskAgreement(
        task, 8, num_tokens, difference, difference, num_other_answers, {"acc": (0.5, 0.5)}, (1.0, 1.0)
    )


def found(monkeypatch: pytest.MonkeyPatch, *tasks: TaskAgreement) -> None:
    monkeypatch.setattr(check_evaluation, "_compare", lambda _: list(tasks))


def test_agreement_passes(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    # whether a choice is the greedy one hangs on rounding where two tokens are nearly as likely
    found(monkeypatch, agreement("choices", 100, 1e-6, 1), agreement("texts", 0, 0.0, 0))
    check(CheckSettings(run=Path("run")))
    assert "| texts | 8 | 0 | - | - | 0 |" in capsys.readouterr().out


def test_differences_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    found(
        monkeypatch,
        agreement("choices", 100, 2e-4, 0),
        agreement("texts", 0, 0.0, 2),
        agreement("other_texts", 0, 0.0, 0),
    )
    with pytest.raises(UserError) as error:
        check(CheckSettings(run=Path("run")))
    assert str(error.value).splitlines() == [
        "more than 0.0001 nats a token apart on average: choices",
        "texts: 2 of 8 generated texts are others",
    ]


def test_no_number_is_no_agreement(monkeypatch: pytest.MonkeyPatch) -> None:
    found(monkeypatch, agreement("choices", 100, float("nan"), 0))
    with pytest.raises(UserError, match="apart on average: choices"):
        check(CheckSettings(run=Path("run")))
