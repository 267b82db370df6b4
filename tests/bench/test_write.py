"""The files of a benchmark."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rla_exp.bench.figure import draw_times
from rla_exp.bench.markdown import to_markdown
from rla_exp.bench.write import slug, write_benchmark
from rla_exp.report.kernel_spec import load_kernel_spec
from rla_exp.report.kernel_table import Row, read_kernel_table


def test_file_names() -> None:
    assert slug("NVIDIA H100 80GB HBM3") == "nvidia-h100-80gb-hbm3"
    assert slug("Intel(R) Xeon(R)") == "intel-r-xeon-r"


def test_cells_of_the_table(content: dict[str, Any]) -> None:
    table = to_markdown(content)
    assert "|  |  | B4 T8192 | B1 T32768 |" in table
    assert "| **RDN** | ours (triton) | 0.8 (0.72\N{EN DASH}0.96) | 0.9 (0.81\N{EN DASH}1.08) |" in table
    assert "| **Gated DeltaNet** | fla-core 0.6.0 | 1.04 (0.936\N{EN DASH}1.25) | \N{EN DASH} |" in table
    assert "| **RDN** | ours (triton) | 80 | 90 |" in table
    assert "- RLA, ours (triton), fwd, B4 T8192: OutOfMemoryError: too much" in table


def test_a_step_is_compared_with_its_states_read_and_written_once(content: dict[str, Any]) -> None:
    # 64 sequences, 16 heads, two float32 states of 128 x 128, read and written: 268 MB at 3000 GB/s
    least = 2 * 2 * 64 * 16 * 128 * 128 * 4 / 3000e9 * 1000
    assert f"{least:.3g} ({0.12 / least:.2f} times)" in to_markdown(content)


def test_floors_are_of_the_fused_kernels_alone(content: dict[str, Any]) -> None:
    assert "floor" in to_markdown(content)
    assert "floor" not in to_markdown({**content, "backend": "chunked"}).lower()


def test_the_report_reads_what_is_written(content: dict[str, Any], tmp_path: Path) -> None:
    paths = write_benchmark(content, tmp_path)
    assert [path.name for path in paths] == [f"nvidia-h100-80gb-hbm3.{kind}" for kind in ("json", "md", "png", "svg")]
    assert json.loads(paths[0].read_text()) == content
    table = read_kernel_table(load_kernel_spec("kernels", "gpu"), [paths[0]])
    column = next(column for column in table.columns if (column.run, column.length) == ("fwd", 8192))
    cell = table.at(Row("NVIDIA H100 80GB HBM3", "rdn", "ours"), column)
    assert cell is not None
    assert cell.ms.value == 0.8
    assert cell.tokens_per_s.value == pytest.approx(4 * 8192 / 0.8e-3)


def test_the_figure_shows_percentiles(content: dict[str, Any]) -> None:
    figure = draw_times(content)
    assert figure is not None
    time, throughput, memory = figure.axes[:3]
    # lines in the order of the labels: the peer's first
    ours = time.containers[1]
    assert ours.lines[0].get_ydata() == pytest.approx([0.8, 0.9])
    ((first, _),) = (bar.get_segments() for bar in ours.lines[2])
    assert first[:, 1] == pytest.approx([0.72, 0.96])
    tokens = throughput.containers[1].lines[0].get_ydata()
    assert tokens == pytest.approx([4 * 8192 / 0.8e-3, 32768 / 0.9e-3])
    assert memory.containers[1].lines[0].get_ydata() == pytest.approx([80, 90])
    assert draw_times({**content, "rows": content["rows"][-1:]}) is None
