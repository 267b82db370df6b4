"""Logarithmic axes can be read whatever they span."""

from __future__ import annotations

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from rla_exp.report.style import label_log_axis


@pytest.mark.parametrize(
    ("low", "high", "first", "last"),
    [
        (1.0, 1.3, "1.04", "1.28"),
        (0.02, 7.0, "0.02", "5"),
        (0.3, 9.0, "0.5", "10"),
        # the norm of a state without normalization and clip
        (1.0, 2e6, "10^{0}", "10^{6}"),
        (1e-12, 1e9, "10^{-12}", "10^{8}"),
    ],
)
def test_a_log_axis_has_at_least_four_labels_and_at_most_nine(low: float, high: float, first: str, last: str) -> None:
    figure = Figure()
    FigureCanvasAgg(figure)
    ax = figure.subplots()
    ax.plot([0.0, 1.0], [low, high])
    ax.set_yscale("log")
    label_log_axis(ax)
    figure.canvas.draw()
    bottom, top = ax.get_ylim()
    ticks = zip(ax.get_yticklabels(), ax.get_yticks(), strict=True)
    labels = [label.get_text() for label, place in ticks if bottom <= place <= top]
    assert 4 <= len(labels) <= 9
    assert first in labels[0]
    assert last in labels[-1]
