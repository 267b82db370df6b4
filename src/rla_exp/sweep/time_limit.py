"""An end by the clock, for machines that are lent by the hour: what cannot end before it is not begun."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Self

from rla_exp.sweep.job import Job


def _unknown(_job: Job) -> float | None:
    return None


@dataclass(frozen=True, kw_only=True)
class TimeLimit:
    """When jobs have to be over."""

    end: float
    """By time.monotonic()."""
    seconds: float
    """The whole limit."""
    expected: Callable[[Job], float | None] = _unknown
    """Seconds that a job will take; None: unknown."""

    @classmethod
    def from_now(cls, seconds: float) -> Self:
        """A limit that begins now."""
        return cls(end=time.monotonic() + seconds, seconds=seconds)

    def expecting(self, expected: Callable[[Job], float | None]) -> Self:
        """The same limit with a way to know how long jobs take."""
        return replace(self, expected=expected)

    @property
    def is_over(self) -> bool:
        """Whether the time has come."""
        return time.monotonic() >= self.end

    def has_room_for(self, job: Job) -> bool:
        """Whether the job would end in time.

        One that no such limit could hold, or of unknown length, may begin: it goes on from its checkpoint next time.
        """
        expected = self.expected(job)
        if self.is_over:
            return False
        return expected is None or expected > self.seconds or time.monotonic() + expected <= self.end
