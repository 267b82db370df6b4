"""Recall against the size of the state: a line a model over its sizes, each point the mean over seeds ± sd."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from rla_exp.config.wording import closest, did_you_mean
from rla_exp.errors import RunError
from rla_exp.report.evaluated import read_evaluations
from rla_exp.report.finished_runs import FinishedRun, by_group
from rla_exp.report.number import format_number
from rla_exp.report.style import COLOURS, STYLE
from rla_exp.runs.evaluations import read_scores

# a colour and a marker for each of the eight backbones; the further colours too are Okabe and Ito's
LINES = tuple(zip((*COLOURS, "#56B4E9", "#E69F00", "#000000", "#999999"), "osD^v<>P", strict=True))


@dataclass(frozen=True)
class RecallPoint:
    """A model of one size."""

    model: str
    group: str
    """<experiment>/<name>-<hash8>."""
    state_bytes: int
    mean: float
    sd: float | None
    """Sample standard deviation over seeds; None for one seed."""
    n: int


def recall_points(runs: Sequence[FinishedRun], score: str, *, mixed: bool = False) -> list[RecallPoint]:
    """One point for the seeds of each group, by model and state size.

    Args:
        score: a metric of result.json ("test/accuracy") or of an evaluation ("eval/<suite>/<task>/<metric>").
        mixed: take evaluations under different settings together.

    Raises:
        RunError: a run lacks the score; says which it has.
        MixedRunsError: the evaluations do not compare, and mixed is false.
    """
    if score.startswith("eval/"):
        read_evaluations(runs, score.split("/")[1], mixed=mixed)
    points = []
    for group, seeds in by_group(runs).items():
        values = [_score(run, score) for run in seeds]
        sd = statistics.stdev(values) if len(values) > 1 else None
        first = seeds[0]
        points.append(RecallPoint(first.label, group, first.state_bytes, statistics.fmean(values), sd, len(values)))
    return sorted(points, key=lambda point: (point.model, point.state_bytes, point.group))


def _score(run: FinishedRun, score: str) -> float:
    scores = {**run.metrics, **{key: found.value for key, found in read_scores(run.path).items()}}
    if score not in scores:
        guess = did_you_mean(closest(score, scores))
        raise RunError(f"score={score}: {run.path} has no such score; it has {', '.join(sorted(scores))}{guess}")
    return scores[score]


def draw_recall(points: Sequence[RecallPoint], score: str) -> Figure:
    """State sizes along the bottom, in powers of two."""
    models = list(dict.fromkeys(point.model for point in points))
    with mpl.rc_context({**STYLE, "axes.grid.axis": "both", "axes.spines.left": True, "ytick.left": True}):
        figure = Figure(figsize=(6.4, 4.0), dpi=200, layout="constrained")
        FigureCanvasAgg(figure)
        ax = figure.subplots()
        for model, (colour, marker) in zip(models, cycle(LINES), strict=False):
            own = [point for point in points if point.model == model]
            ax.errorbar(
                [point.state_bytes for point in own],
                [point.mean for point in own],
                yerr=[point.sd or 0.0 for point in own],
                color=colour,
                marker=marker,
                markersize=4.5,
                linewidth=1.1,
                capsize=2.6,
                label=model,
            )
        ax.set_xscale("log", base=2)
        ax.xaxis.set_major_formatter(lambda value, _: format_number(value, "bytes"))
        ax.margins(x=0.08)
        ax.set_xlabel("state of one sequence (float32, at the test's longest length)")
        ax.set_ylabel(score)
        seeds = sorted({point.n for point in points})
        count = f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
        ax.set_title("one seed each" if seeds == [1] else f"mean ± sample sd over {count} seeds", color="#444444")
        ax.legend(frameon=False, fontsize=8)
    return figure
