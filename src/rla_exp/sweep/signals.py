"""SIGINT and SIGTERM while jobs run: kept for the loop that watches the jobs, which passes them on."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def signals_into(received: list[signal.Signals]) -> Iterator[None]:
    """Append every signal that asks this process to end to `received`."""
    # handlers belong to the main thread; elsewhere the caller's own stay in force
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, _frame: FrameType | None) -> None:
        received.append(signal.Signals(number))

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
