"""Commands that write scores of one run wait for each other."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from rla_exp.errors import RunError
from rla_exp.runs.evaluations import evaluations_locked


def test_another_waits_until_the_first_has_written(tmp_path: Path) -> None:
    order: list[str] = []
    begun = threading.Event()

    def second() -> None:
        begun.set()
        with evaluations_locked(tmp_path):
            order.append("second")

    with evaluations_locked(tmp_path):
        thread = threading.Thread(target=second)
        thread.start()
        begun.wait()
        thread.join(0.3)
        assert thread.is_alive()
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "evaluations").write_text("")
    with pytest.raises(RunError, match=r"cannot make .*evaluations"), evaluations_locked(tmp_path):
        pass
