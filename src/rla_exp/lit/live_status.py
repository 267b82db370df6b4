"""Keeping status.json up to date while a run trains."""

from __future__ import annotations

import time
from dataclasses import dataclass

from rla_exp.runs import RunFolder, RunState, Status

SECONDS_BETWEEN_WRITES = 0.5


@dataclass
class LiveStatus:
    """Where the run stands; written at most twice a second while it is running."""

    folder: RunFolder
    max_steps: int
    step: int = 0
    first_step: int | None = None
    loss: float | None = None
    tokens_per_s: float | None = None
    _written: float = -float("inf")

    def update(self, step: int, loss: float, tokens_per_s: float) -> None:
        """Take note of the end of a step."""
        self.step, self.loss, self.tokens_per_s = step, loss, tokens_per_s
        if time.monotonic() - self._written >= SECONDS_BETWEEN_WRITES:
            self.write("running")

    def write(self, state: RunState, error: str | None = None) -> None:
        """Write the status as it is now."""
        self._written = time.monotonic()
        self.folder.write_status(
            Status(
                state=state,
                step=self.step,
                max_steps=self.max_steps,
                first_step=self.first_step,
                loss=self.loss,
                tokens_per_s=self.tokens_per_s,
                error=error,
            )
        )
