"""Needles in a haystack as heat maps: accuracy over length and depth, a row of maps a model, one map a task."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from rla_exp.errors import RunError
from rla_exp.report.evaluated import read_evaluations
from rla_exp.report.finished_runs import FinishedRun, by_group
from rla_exp.report.style import STYLE
from rla_exp.runs.evaluations import Evaluation

# above this the cells are dark, and their numbers white
_DARK = 0.6


@dataclass(frozen=True)
class HeatCell:
    """A place of a map."""

    model: str
    group: str
    """<experiment>/<name>-<hash8>."""
    task: str
    length: int
    depth: float
    accuracy: float
    """Mean over seeds of the share of answers found."""
    n: int
    """Documents, of all seeds."""
    seeds: int


def heat_cells(
    runs: Sequence[FinishedRun], suite: str, tasks: Sequence[str] | None = None, *, mixed: bool = False
) -> list[HeatCell]:
    """The places of the maps of each group of runs, from evaluations/<suite>.json.

    Args:
        tasks: those to show; None: all.
        mixed: take evaluations under different settings together.

    Raises:
        RunError: a run is not evaluated with the suite, has no needles in it, or lacks a task.
        MixedRunsError: the evaluations do not compare, and mixed is false.
    """
    cells = []
    evaluations = dict(zip((run.path for run in runs), read_evaluations(runs, suite, mixed=mixed), strict=True))
    for group, seeds in by_group(runs).items():
        found: dict[tuple[str, int, float], list[tuple[float, int]]] = {}
        for run in seeds:
            for task, length, depth, accuracy, n in _places(evaluations[run.path]):
                found.setdefault((task, length, depth), []).append((accuracy, n))
        if not found:
            raise RunError(f"suite={suite}: {group} has no needles in it; heat maps are of the suite niah")
        there = {task for task, _, _ in found}
        missing = [task for task in tasks or () if task not in there]
        if missing:
            raise RunError(f"tasks={','.join(missing)}: {group} has only {', '.join(sorted(there))}")
        cells += [
            HeatCell(
                seeds[0].label,
                group,
                task,
                length,
                depth,
                statistics.fmean(accuracy for accuracy, _ in values),
                sum(n for _, n in values),
                len(values),
            )
            for (task, length, depth), values in found.items()
            if tasks is None or task in tasks
        ]
    return cells


def draw_heatmaps(cells: Sequence[HeatCell]) -> Figure:
    """A row of maps for each group of runs, a column a task; lengths along the bottom, depths downward."""
    groups = {cell.group: cell.model for cell in cells}
    tasks = list(dict.fromkeys(cell.task for cell in cells))
    lengths, depths = sorted({cell.length for cell in cells}), sorted({cell.depth for cell in cells})
    wide, high = 0.55 * len(lengths) + 0.35, 0.3 * len(depths) + 0.45
    with mpl.rc_context({**STYLE, "axes.grid": False}):
        figure = Figure(figsize=(1.6 + wide * len(tasks), 1.1 + high * len(groups)), dpi=200, layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(len(groups), len(tasks), squeeze=False, sharex=True, sharey=True)
        for (group, model), line in zip(groups.items(), axes, strict=True):
            for task, ax in zip(tasks, line, strict=True):
                image = _draw_map(
                    ax, [cell for cell in cells if (cell.group, cell.task) == (group, task)], lengths, depths
                )
            line[0].set_ylabel(f"{_name(group, model, groups.values())}\ndepth (%)")
            line[0].set_yticks(range(len(depths)), [f"{100 * depth:g}" for depth in depths])
        for task, ax in zip(tasks, axes[0], strict=True):
            ax.set_title(task.removeprefix("needle_").replace("_", " "))
        for ax in axes[-1]:
            ax.set_xticks(range(len(lengths)), [_short(length) for length in lengths])
        figure.supxlabel("length (tokens)", fontsize=9)
        figure.colorbar(image, ax=axes, fraction=0.03, label="answers found")
    return figure


def _draw_map(ax: Axes, cells: Sequence[HeatCell], lengths: Sequence[int], depths: Sequence[float]) -> Any:
    accuracy = np.full((len(depths), len(lengths)), np.nan)
    for cell in cells:
        place = depths.index(cell.depth), lengths.index(cell.length)
        accuracy[place] = cell.accuracy
        colour = "white" if cell.accuracy > _DARK else "#333333"
        ax.text(place[1], place[0], f"{cell.accuracy:.2f}", ha="center", va="center", fontsize=6, color=colour)
    # one hue from light to dark, so that order shows in grey too
    return ax.imshow(accuracy, cmap="Blues", vmin=0, vmax=1, aspect="auto")


def _name(group: str, model: str, models: Any) -> str:
    """The model; where several groups are of it, with its folder's hash."""
    return f"{model} {group.rpartition('-')[2]}" if list(models).count(model) > 1 else model


def _short(length: int) -> str:
    return f"{length // 1024}k" if length % 1024 == 0 else f"{length}"


def _places(evaluation: Evaluation) -> list[tuple[str, int, float, float, int]]:
    """Task, length, depth, accuracy and number of documents."""
    try:
        return [
            (task, int(cell["length"]), float(cell["depth"]), float(cell["accuracy"]), int(cell["n"]))
            for task, scores in evaluation.tasks.items()
            for cell in scores.details
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(
            f"eval={evaluation.suite} holds no needles ({error!r}); heat maps are of the suite niah"
        ) from error
