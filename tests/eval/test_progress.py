"""How far an evaluation is, on a terminal and in a file, while lm-eval is silenced."""

from __future__ import annotations

import io
import re

import pytest

from rla_exp.eval import progress
from rla_exp.eval.evaluate import EvaluationSettings, evaluate_run
from rla_exp.eval.progress import shown_on
from rla_exp.eval.restore import LoadedRun
from rla_exp.eval.suite import LmEvalSuite, NeedleSuite


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_REFRESHES", 0.0)


def test_lines_tell_what_is_done_and_left() -> None:
    stream = io.StringIO()
    with shown_on(stream)("some_task", 2000) as advance:
        for count in (500, 0, 1000, 500):
            advance(count)
    lines = stream.getvalue().splitlines()
    # nothing for no news, and not for the end, which the scores tell
    assert [re.sub(r"[\d:]+ left", "T left", line) for line in lines] == [
        "some_task: 500 of 2,000, T left",
        "some_task: 1,500 of 2,000, T left",
    ]


def test_short_tasks_are_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 30.0)
    stream = io.StringIO()
    with shown_on(stream)("some_task", 2) as advance:
        advance(1)
    assert stream.getvalue() == ""


@pytest.mark.parametrize("stream", [io.StringIO(), Terminal()])
def test_every_kind_of_request_shows(loaded: LoadedRun, stream: io.StringIO) -> None:
    suite = LmEvalSuite(kind="lm_eval", tasks=["smoke_choice", "smoke_document", "smoke_completion"])
    evaluate_run(loaded, "some", suite, EvaluationSettings(batch_size=4), progress=shown_on(stream))
    needles = NeedleSuite(
        kind="niah", tasks=["needle_single_1"], lengths=[320], depths=[0.5], num_samples=3, max_new_tokens=4
    )
    evaluate_run(loaded, "needles", needles, EvaluationSettings(batch_size=1), progress=shown_on(stream))
    shown = stream.getvalue()
    separator = "/" if stream.isatty() else " of "
    # documents are short and few: all of them are one batch
    for task, total in (("smoke_completion", 16), ("needle_single_1", 3)):
        assert re.search(rf"{task}.*\d{separator}{total}", shown), task
    assert ("smoke_choice" in shown) is stream.isatty()
