"""The bar and the plain lines."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable

import pytest

from rla_exp.config import Composed
from rla_exp.lit import train_run
from rla_exp.lit.callbacks import progress
from rla_exp.lit.timing import Timing


def test_format_seconds() -> None:
    assert [progress.format_seconds(seconds) for seconds in (0.4, 65, 3725)] == ["0:00", "1:05", "1:02:05"]


def test_plain_lines(
    make_run: Callable[..., Composed], capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    train_run(make_run(progress=True))
    out, err = capfd.readouterr()
    assert out == ""
    lines = err.splitlines()
    assert len(lines) == 8
    assert lines[-1].startswith("rdn-full-mqar seed 0  step 8/8  loss ")
    assert lines[-1].endswith("0:00 left")
    assert " tokens/s  " in lines[-1]


def test_without_progress_nothing_is_said(make_run: Callable[..., Composed], capfd: pytest.CaptureFixture[str]) -> None:
    train_run(make_run(progress=False))
    assert capfd.readouterr() == ("", "")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_bar_on_a_terminal(make_run: Callable[..., Composed], monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(sys, "stderr", terminal)
    train_run(make_run(progress=True))
    text = terminal.getvalue()
    assert "rdn-full-mqar seed 0" in text
    assert "8/8" in text
    assert "tokens/s" in text
    # the cursor is shown again
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")


def test_timing_takes_medians_and_survives_a_checkpoint() -> None:
    timing = Timing("cpu")
    for seconds in (9.0, 9.0, 9.0, 9.0, 9.0, 1.0, 2.0, 4.0):
        timing.add_step(100, seconds)
    assert timing.summary()["tokens_per_s"] == 50.0
    resumed = Timing("cpu")
    resumed.load_state_dict(timing.state_dict())
    assert resumed.summary()["tokens_per_s"] == 50.0
    assert resumed.seconds >= timing.state_dict()["seconds"] - 0.1
    for seconds in (9.0,) * 5 + (10.0,) * 4:
        resumed.add_step(100, seconds)
    assert resumed.summary()["tokens_per_s"] == 10.0
    short = Timing("cpu")
    short.add_step(100, 4.0)
    assert short.summary()["tokens_per_s"] == short.recent_tokens_per_s == 25.0
