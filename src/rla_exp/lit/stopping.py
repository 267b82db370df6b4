"""Being asked to stop: SIGINT and SIGTERM end a run where it can go on later."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from rla_exp.errors import InterruptedRun

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """Turns signals into `InterruptedRun`: at the end of the current step while training, at once elsewhere.

    A second signal stops at once in any case; then the last checkpoint is what the next start goes on from.
    """

    def __init__(self) -> None:
        self.received: str | None = None
        """Name of the first signal; None before it comes."""
        self.waits_for_step = False
        """Set while a training step is under way, whose end will look at `received`."""

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Handle the signals, in the main thread (elsewhere Python lets nobody)."""
        before = {number: signal.getsignal(number) for number in SIGNALS}
        self.listen()
        try:
            yield
        finally:
            if threading.current_thread() is threading.main_thread():
                for number, handler in before.items():
                    signal.signal(number, handler)

    def listen(self) -> None:
        """Set the handlers, again where somebody else has set theirs (Lightning's Trainer does)."""
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                signal.signal(number, self._receive)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        again = self.received is not None
        self.received = signal.Signals(number).name
        if again or not self.waits_for_step:
            self.waits_for_step = False
            raise InterruptedRun(f"stopped by {self.received}; the same command goes on")
