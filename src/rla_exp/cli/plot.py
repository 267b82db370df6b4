"""`python scripts/plot.py plot=recall runs=runs/mqar`: figures over whatever runs are finished; none is trained."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from rla_exp.cli.key_values import Key, describe_keys, read_key_values, yes_or_no
from rla_exp.cli.outcome import exit_code
from rla_exp.errors import ConfigError
from rla_exp.report.figure import save_figure
from rla_exp.report.finished_runs import find_runs
from rla_exp.report.heatmap import draw_heatmaps, heat_cells
from rla_exp.report.recall_plot import draw_recall, recall_points
from rla_exp.report.write import check_writable
from rla_exp.runs.files import expand_home, write_atomically

PLOTS = ("needles", "recall")


def _plot(text: str) -> str:
    if text not in PLOTS:
        raise ValueError(text)
    return text


def _list(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(","))


KEYS = {
    "plot": Key(_plot, " or ".join(PLOTS), "heat maps over depth and length, or recall against state size; needed"),
    "runs": Key(_list, "folders or globs, separated by commas", "the finished runs at or below them; default runs"),
    "score": Key(
        str, "a metric, or eval/SUITE/TASK/METRIC", "recall: of result.json or an evaluation; default test/accuracy"
    ),
    "suite": Key(str, "a suite of conf/eval", "needles: which one; default niah"),
    "tasks": Key(_list, "tasks, separated by commas", "needles: which ones; default all"),
    "mixed": Key(yes_or_no, "true or false", "draw runs of different sources, devices or corpora; default false"),
    "out": Key(expand_home, "a folder", "where data and figure go; default results/<plot>"),
}

HELP = f"""Draw finished runs: seeds of one configuration become one mean.

usage: python scripts/plot.py plot=needles|recall [key=value ...]

{describe_keys(KEYS)}"""


@dataclass(frozen=True, kw_only=True)
class PlotSettings:
    """The settings of the command; see KEYS."""

    plot: str | None = None
    runs: tuple[str, ...] = ("runs",)
    score: str | None = None
    suite: str | None = None
    tasks: tuple[str, ...] | None = None
    mixed: bool = False
    out: Path | None = None

    def __post_init__(self) -> None:
        if self.plot is None:
            raise ConfigError([f"plot is not set; write plot={PLOTS[0]} or plot={PLOTS[1]}"])
        other, keys = ("recall", ("score",)) if self.plot == "needles" else ("needles", ("suite", "tasks"))
        problems = [
            f"{key}: has no effect with plot={self.plot}; it needs plot={other}"
            for key in keys
            if getattr(self, key) is not None
        ]
        if problems:
            raise ConfigError(problems)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if {"-h", "--help", "help"} & set(arguments):
        print(HELP)
        return 0
    return exit_code(lambda: plot(PlotSettings(**read_key_values(arguments, KEYS))))


def plot(settings: PlotSettings) -> None:
    """Write data.json, data.csv, figure.png and figure.svg.

    Raises:
        UserError: runs or scores are not there, do not compare, or the folder cannot be written.
    """
    runs = find_runs(settings.runs, mixed=settings.mixed)
    points: Sequence[Any]
    if settings.plot == "needles":
        points = heat_cells(runs, settings.suite or "niah", settings.tasks, mixed=settings.mixed)
        figure = draw_heatmaps(points)
    else:
        score = settings.score or "test/accuracy"
        points = recall_points(runs, score, mixed=settings.mixed)
        figure = draw_recall(points, score)
    out = settings.out or Path("results") / str(settings.plot)
    _write([asdict(point) for point in points], figure, out)
    print("written:", *(str(path) for path in sorted(out.iterdir())), sep="\n  ")


def _write(rows: list[dict[str, Any]], figure: Figure, folder: Path) -> None:
    check_writable(folder)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(folder / "data.csv", text.getvalue())
    write_atomically(folder / "data.json", json.dumps(rows, indent=1, allow_nan=False) + "\n")
    save_figure(figure, folder)


if __name__ == "__main__":
    sys.exit(main())
