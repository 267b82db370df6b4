"""One row's number in one column, with the runs that it comes from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rla_exp.report.outcome import Outcome
from rla_exp.report.spec import Row
from rla_exp.report.summary import Difference, Summary

NOT_RUN = "\N{EN DASH}"


@dataclass(frozen=True)
class Cell:
    """One row's number in one column."""

    row: Row
    column: str
    runs: tuple[Outcome, ...]
    """Every run that the cell needs; empty where the row is not run for this column, or the number is not ours."""
    values: dict[str, float]
    """The cell's number of each run that has one, by the run's <study>/seed<k>."""
    summary: Summary | None
    selection: Summary | None
    """The numbers that choose the best cell: those on validation data where the column shows test data."""
    difference: Difference | None
    """Paired differences to the reference row of the group, over the seeds that both have."""
    mark: Literal["better", "worse"] | None
    """How the row stands to the reference row, where the difference is told apart from zero."""
    best: bool
    number: str
    """The number as it is read: 0.912 ± 0.021; empty where there is none."""
    gaps: str
    """What the number lacks: missing (1 of 3); empty where it lacks nothing."""
    num_missing: int
    """Runs without their number so far: not finished, or finished and not evaluated."""

    @property
    def text(self) -> str:
        """What stands in the cell, without marks: 0.912 ± 0.021, missing (1 of 3)."""
        return ", ".join(part for part in (self.number, self.gaps) if part) or NOT_RUN

    @property
    def is_empty(self) -> bool:
        """Whether nothing is or will be known here at this scale."""
        return not self.runs and not self.number

    def count(self, state: Literal["done", "failed", "missing"]) -> int:
        """How many of the cell's runs are in this state."""
        return sum(run.state == state for run in self.runs)
