from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import matplotlib.image
import pytest
from matplotlib.axes import Axes
from matplotlib.container import ErrorbarContainer

from rla_exp.errors import UserError
from rla_exp.report import Table, write_table
from rla_exp.report.figure import draw_figure

if TYPE_CHECKING:
    from conftest import Runs

FILES = ["cells.json", "environment.json", "figure.png", "figure.svg", "table.csv", "table.md", "table.tex"]


def means_and_spreads(ax: Axes) -> list[tuple[float, float, float]]:
    """Mean, lower and upper end of every error bar in a panel, from top to bottom."""
    found = []
    for container in ax.containers:
        assert isinstance(container, ErrorbarContainer)
        ((low, _), (high, _)) = container.lines[2][0].get_segments()[0]
        found.append((float(container.lines[0].get_xdata()[0]), low, high))
    return found


def words(ax: Axes) -> list[str]:
    return [text.get_text() for text in ax.texts]


def test_every_number_of_the_figure(table: Table) -> None:
    axes = draw_figure(table).axes
    # groups below each other, panels beside each other
    rla_accuracy, rla_bits, rdn_accuracy, rdn_bits = axes
    assert [ax.get_title() for ax in axes] == ["MQAR\naccuracy ↑", "Text\nbits ↓", "", ""]
    assert [label.get_text() for label in rla_accuracy.get_yticklabels()] == ["full", "no_clip", "\u03b3 = 1"]
    sd = 0.0007**0.5
    half = 0.0002**0.5
    assert means_and_spreads(rla_accuracy) == [
        pytest.approx((0.92, 0.90, 0.94), rel=1e-12),
        pytest.approx((0.52, 0.52 - sd, 0.52 + sd), rel=1e-12),
        pytest.approx((0.94, 0.94 - half, 0.94 + half), rel=1e-12),
    ]
    assert means_and_spreads(rla_bits) == [
        pytest.approx((2.125, 2.0, 2.25), rel=1e-12),
        pytest.approx((2.375, 2.25, 2.5), rel=1e-12),
    ]
    assert len(means_and_spreads(rdn_accuracy)) == 1
    assert means_and_spreads(rdn_bits) == []
    seeds = [list(line.get_xdata()) for line in rla_accuracy.lines if len(line.get_xdata()) == 3]
    assert seeds == [[0.90, 0.92, 0.94], [0.50, 0.51, 0.55]]
    # the end of the accuracy's axis is the scale's, with a margin
    assert rla_accuracy.get_xlim() == pytest.approx((-0.03, 1.03), rel=1e-12)


def test_the_figure_says_what_is_lacking(table: Table) -> None:
    rla_accuracy, rla_bits, rdn_accuracy, rdn_bits = draw_figure(table).axes
    assert words(rla_accuracy) == ["RLA", "failed (1 of 3)"]
    assert words(rla_bits) == ["not run"]
    assert words(rdn_accuracy) == ["RDN", "missing (1 of 3)", "missing (3 of 3)", "failed (3 of 3)"]
    assert words(rdn_bits) == ["missing (3 of 3)", "not run", "missing (3 of 3)"]


def test_the_reference_has_a_line_in_every_panel_that_knows_it(table: Table) -> None:
    def dashed(ax: Axes) -> list[float]:
        return [float(line.get_xdata()[0]) for line in ax.lines if line.get_linestyle() == "--"]

    found = [dashed(ax) for ax in draw_figure(table).axes]
    assert found == [[pytest.approx(0.92)], [2.125], [pytest.approx(0.97)], []]


def test_a_warning_is_part_of_the_figure(one_seed: Runs) -> None:
    for row in ("rla/full", "rla/no_clip", "rdn/full", "rdn/no_clip"):
        one_seed.mqar(row, 7, 0.5, 0.5)
    (legend,) = draw_figure(one_seed.collect()).legends
    assert legend.get_title().get_text() == "Numbers mean nothing."


def test_all_files_are_written_and_repeat_byte_for_byte(table: Table, tmp_path: Path) -> None:
    write_table(table, tmp_path / "results" / "small" / "cpu")
    write_table(table, tmp_path / "again")
    first = tmp_path / "results" / "small" / "cpu"
    assert sorted(path.name for path in first.iterdir()) == FILES
    for name in FILES:
        assert (first / name).read_bytes() == (tmp_path / "again" / name).read_bytes(), name
    height, width, _ = matplotlib.image.imread(first / "figure.png").shape
    assert (width, height) == (1340, 752)
    assert ElementTree.parse(first / "figure.svg").getroot().tag == "{http://www.w3.org/2000/svg}svg"
    assert b"/tmp" not in (first / "cells.json").read_bytes()


def test_a_table_without_any_run_is_written_all_the_same(empty: Runs, tmp_path: Path) -> None:
    write_table(empty.collect(), tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == FILES


def test_a_folder_that_cannot_be_written_is_named(table: Table, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(UserError, match=r"the table cannot be written to .*file.*choose another folder with results="):
        write_table(table, tmp_path / "file")


def test_a_full_disk_leaves_the_table_that_was_there(
    table: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "table.md").write_text("before", encoding="utf-8")

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("rla_exp.report.write.save_figure", fail)
    with pytest.raises(UserError, match=r"cannot be written to .*out: No space left on device"):
        write_table(table, folder)
    assert [(path.name, path.read_text()) for path in folder.iterdir()] == [("table.md", "before")]
