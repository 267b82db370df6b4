"""The W&B workspace and report as the library's own objects; nothing here talks to the service."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import wandb_workspaces.reports.v2 as wr
import wandb_workspaces.workspaces as ws

from rla_exp.dashboard.payloads import LAYER

NAME = "rla_exp"
"""Of the workspace and of the report."""
HELD_OUT = ("valid/",)
FINAL = ("test/accuracy", "test/bits_per_byte", "test/perplexity", "test/loss")
MOST_RUNS = 60
WIDTH, HEIGHT = 12, 8
"""Of a panel in a report, whose grid is 24 wide."""


@dataclass(frozen=True)
class Logged:
    """What the runs of a project log, for panels of things that exist."""

    curves: Sequence[str]
    """Metrics over steps, those of layers left out."""
    layer_statistics: Sequence[str]
    """As "gamma_mean" of diag/layer<i>/gamma_mean."""
    final: Sequence[str]
    """Metrics of result.json."""

    @classmethod
    def of(cls, logged: Iterable[str], final: Iterable[str]) -> Logged:
        """From the keys of metrics.jsonl and of result.json."""
        names = set(logged) - {"step"}
        statistics = {match[2] for name in names if (match := LAYER.fullmatch(name))}
        curves = sorted(name for name in names if not LAYER.fullmatch(name))
        return cls(curves, sorted(statistics), [name for name in FINAL if name in set(final)])


def lay_out_workspace(workspace: ws.Workspace, logged: Logged) -> ws.Workspace:
    """Give a workspace, new or loaded, our sections; runs are grouped by experiment, and seeds as one group."""
    workspace.name = NAME
    workspace.sections = [
        ws.Section(name=title, panels=panels, is_open=True, layout_settings=ws.SectionLayoutSettings(columns=3, rows=2))
        for title, panels in _sections(logged).items()
    ]
    workspace.settings.x_axis = "Step"
    workspace.settings.max_runs = MOST_RUNS
    workspace.runset_settings.groupby = [ws.Config("experiment"), ws.Metric("Group")]
    workspace.runset_settings.pinned_columns = [f"summary:{name}" for name in logged.final]
    return workspace


def lay_out_report(
    report: wr.Report, logged: Logged, experiments: Sequence[str], tables: Mapping[str, str]
) -> wr.Report:
    """Give a report, new or loaded, our blocks: the tables, then each experiment's curves.

    Args:
        tables: the text of table.md by the name of the table.
    """
    report.title = NAME
    report.description = "Written by `make dashboard`, which replaces it"
    report.width = "fluid"
    blocks: list[object] = [wr.TableOfContents()]
    for name, text in tables.items():
        blocks += [wr.H1(f"Table {name}"), wr.MarkdownBlock(text)]
    for experiment in experiments:
        runset = wr.Runset(
            entity=report.entity,
            project=report.project,
            name=experiment,
            filters=f"Config('experiment') == {json.dumps(experiment)}",
            groupby=["group"],
        )
        blocks.append(wr.H1(experiment))
        for title, panels in _sections(logged).items():
            blocks += [wr.H2(title), wr.PanelGrid(runsets=[runset], panels=_in_rows(panels))]
    report.blocks = blocks
    return report


def _sections(logged: Logged) -> dict[str, list[wr.LinePlot | wr.BarPlot]]:
    held_out = [name for name in logged.curves if name.startswith(HELD_OUT)]
    training = [name for name in logged.curves if name not in held_out]
    sections: dict[str, list[wr.LinePlot | wr.BarPlot]] = {
        "Results": [_bars(name) for name in logged.final],
        "Held-out": [_curve(name) for name in held_out],
        "Training": [_curve(name) for name in training],
        "Gates, residuals and states by layer": [_layers(name) for name in logged.layer_statistics],
    }
    return {title: panels for title, panels in sections.items() if panels}


def _curve(metric: str) -> wr.LinePlot:
    """Mean over a group's seeds and its standard deviation."""
    return wr.LinePlot(title=metric, x="Step", y=[metric], max_runs_to_show=MOST_RUNS, **_OVER_SEEDS)


def _layers(statistic: str) -> wr.LinePlot:
    """One statistic of all layers."""
    pattern = rf"diag/layer\d+/{re.escape(statistic)}"
    return wr.LinePlot(title=statistic, x="Step", metric_regex=pattern, max_runs_to_show=MOST_RUNS, **_OVER_SEEDS)


def _bars(metric: str) -> wr.BarPlot:
    return wr.BarPlot(title=metric, metrics=[metric], max_bars_to_show=MOST_RUNS, **_OVER_SEEDS)


_OVER_SEEDS = {"groupby": wr.Metric("Group"), "groupby_aggfunc": "mean", "groupby_rangefunc": "stddev"}


def _in_rows(panels: Sequence[wr.LinePlot | wr.BarPlot]) -> list[wr.LinePlot | wr.BarPlot]:
    """Two panels beside each other, the rows below each other."""
    for place, panel in enumerate(panels):
        panel.layout = wr.Layout(x=place % 2 * WIDTH, y=place // 2 * HEIGHT, w=WIDTH, h=HEIGHT)
    return list(panels)
