"""Evaluations of several runs with one suite, checked to compare."""

from __future__ import annotations

from collections.abc import Sequence

from rla_exp.errors import RunError
from rla_exp.report.finished_runs import FinishedRun
from rla_exp.report.outcome import MixedRunsError
from rla_exp.runs.evaluations import OF_THE_MODEL, Evaluation, differing_conditions, read_evaluation


def read_evaluations(runs: Sequence[FinishedRun], suite: str, *, mixed: bool = False) -> list[Evaluation]:
    """Each run's evaluation.

    Args:
        mixed: take evaluations under different conditions together.

    Raises:
        RunError: a run is not evaluated with the suite, or its file is damaged.
        MixedRunsError: the evaluations do not compare, and mixed is false.
    """
    evaluations = []
    for run in runs:
        evaluation = read_evaluation(run.path, suite)
        if evaluation is None:
            raise RunError(f"{run.path} has no {suite} yet: python scripts/evaluate.py run={run.path} eval={suite}")
        evaluations.append(evaluation)
    differing = differing_conditions(evaluations, but=OF_THE_MODEL)
    if differing and not mixed:
        raise MixedRunsError(
            f"the evaluations with {suite} differ in their {', '.join(differing)} and do not compare; "
            "evaluate the runs alike, or pass mixed=true to draw them together"
        )
    return evaluations
