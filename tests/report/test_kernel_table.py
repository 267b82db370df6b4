"""Kernel times: read from a file in the form of benchmarks/, and taken on this CPU."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from rla_exp.cli.kernel_table import make_kernel_table
from rla_exp.errors import UserError
from rla_exp.report.kernel_figure import draw_kernels
from rla_exp.report.kernel_formats import kernel_files
from rla_exp.report.kernel_spec import KernelSpec, load_kernel_spec
from rla_exp.report.kernel_table import read_kernel_table

ROW = {"peer": None, "pass": "fwd", "B": 4, "H": 16, "K": 128, "V": 128, "dtype": "bfloat16", "peak_mib": 100.0}


def row(op: str, length: int, ms: float, **more: Any) -> dict[str, Any]:
    return {**ROW, "op": op, "T": length, "ms": ms, "ms_p20": 0.9 * ms, "ms_p80": 1.2 * ms, **more}


@pytest.fixture
def benchmarks(tmp_path: Path) -> Path:
    folder = tmp_path / "benchmarks"
    folder.mkdir()
    rows = [
        row("rdn", 2048, 1.0),
        row("rdn", 4096, 2.0, B=1),
        row("rdn", 2048, 3.0, **{"pass": "fwd+bwd"}),
        row("gated_delta_net", 2048, 0.5, peer="peer 1.2"),
        # what the table does not show: another head, type, length
        row("rdn", 2048, 9.0, K=64, V=64),
        row("rdn", 2048, 9.0, dtype="float32"),
        row("rdn", 1000, 9.0),
    ]
    content = {
        "gpu": "a GPU",
        "versions": {},
        "commit": "abc",
        "command": "make bench",
        "date": "2026-11-24",
        "rows": rows,
    }
    (folder / "gpu.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


@pytest.fixture
def spec() -> KernelSpec:
    return load_kernel_spec("kernels", "gpu")


def test_rows_and_columns_of_a_benchmark(spec: KernelSpec, benchmarks: Path) -> None:
    table = read_kernel_table(spec, [benchmarks / "gpu.json"])
    assert table.columns == [("fwd", 2048, 4, 16), ("fwd", 4096, 1, 16), ("fwd+bwd", 2048, 4, 16)]
    assert table.rows == [("a GPU", "gated_delta_net", "peer 1.2"), ("a GPU", "rdn", "ours")]
    files = kernel_files(table)
    lines = files["table.md"].splitlines()
    dash = "\N{EN DASH}"
    assert "| | | forward, 4 x 2,048 tokens | forward, 1 x 4,096 tokens | forward + backward, 4 x 2,048 tokens |" in [
        line.replace("|  |", "| |", 1).replace("|  |", "| |", 1) for line in lines
    ]
    assert [line for line in lines if line.startswith("### ")] == [
        "### Run time, ms",
        "### Throughput, million tokens/s",
        "### Extra memory, MiB",
    ]
    assert [line for line in lines if line.startswith("| **RDN** | ours |")] == [
        f"| **RDN** | ours | 1 (0.9{dash}1.2) | 2 (1.8{dash}2.4) | 3 (2.7{dash}3.6) |",
        # 8192, 4096 and 8192 tokens in these times: the longest is the lowest rate
        f"| **RDN** | ours | 8.19 (6.83{dash}9.1) | 2.05 (1.71{dash}2.28) | 2.73 (2.28{dash}3.03) |",
        "| **RDN** | ours | 100 | 100 | 100 |",
    ]
    assert f"| **Gated DeltaNet** | peer 1.2 | 0.5 (0.45{dash}0.6) | {dash} | {dash} |" in lines
    assert any("sequences x tokens of each; 16 heads." in line for line in lines)
    assert any("Not ours, as reported" in line and "rdn 120" in line for line in lines)
    assert any("Measured on a GPU, 2026-11-24, commit abc: make bench." in line for line in lines)
    assert files["table.tex"].isascii()


def test_several_gpus_and_numbers_of_heads_are_told_apart(spec: KernelSpec, benchmarks: Path) -> None:
    content = json.loads((benchmarks / "gpu.json").read_text(encoding="utf-8"))
    other = {**content, "gpu": "another", "rows": [row("rdn", 2048, 4.0), row("rdn", 2048, 8.0, H=32)]}
    (benchmarks / "other.json").write_text(json.dumps(other), encoding="utf-8")
    table = read_kernel_table(spec, sorted(benchmarks.iterdir()))
    assert [column.key for column in table.columns][:2] == ["fwd@4x2048x16", "fwd@4x2048x32"]
    files = kernel_files(table)
    lines = files["table.md"].splitlines()
    labels = [row["label"] for row in json.loads(files["cells.json"])["rows"]]
    assert labels == ["peer 1.2, a GPU", "ours, a GPU", "ours, another"]
    assert any("forward, 4 x 2,048 tokens, 32 heads" in line for line in lines)
    assert any(line.startswith("| **RDN** | ours, another | 4 (3.6") for line in lines)
    assert any(line.startswith("| **RDN** | ours, a GPU | 1 (0.9") for line in lines)

    (benchmarks / "other.json").write_text(json.dumps({**other, "rows": [*other["rows"], row("rdn", 2048, 5.0)]}))
    with pytest.raises(UserError, match=r"other.json has another, rdn, ours, fwd@4x2048x16 a second time"):
        read_kernel_table(spec, sorted(benchmarks.iterdir()))


def test_numbers_for_other_programs(spec: KernelSpec, benchmarks: Path) -> None:
    files = kernel_files(read_kernel_table(spec, [benchmarks / "gpu.json"]))
    header, _, rdn = csv.reader(files["table.csv"].splitlines())
    values = dict(zip(header, rdn, strict=True))
    # 4096 tokens in 2 ms
    assert (values["fwd@1x4096x16:ms"], values["fwd@1x4096x16:tokens_per_s"]) == ("2.0", "2048000.0")
    content = json.loads(files["cells.json"])
    assert ("rdn", "RDN") in [(row["group"], row["group_label"]) for row in content["rows"]]
    cell = next(c for c in content["cells"] if (c["group"], c["column"]) == ("rdn", "fwd@1x4096x16"))
    assert (cell["values"]["ms"], cell["values"]["peak_mib"], cell["runs"]) == (2.0, 100.0, [])


def test_the_figure_draws_time_throughput_and_memory_against_length(spec: KernelSpec, benchmarks: Path) -> None:
    axes = draw_kernels(read_kernel_table(spec, [benchmarks / "gpu.json"])).axes
    assert [ax.get_title() for ax in axes] == ["a GPU\npeer 1.2", "a GPU\nours", *[""] * 10]
    drawn = [[[*map(float, line.get_ydata())] for line in ax.lines] for ax in axes[1::2]]
    million = pytest.approx
    assert drawn == [
        [[1.0, 2.0]],
        [[million(8.192), million(2.048)]],
        [[100.0, 100.0]],
        [[3.0]],
        [[million(8.192 / 3)]],
        [[100.0]],
    ]
    assert [label.get_text() for label in axes[-1].get_xticklabels()] == ["4x2K", "1x4K"]


def test_without_times_it_says_how_to_take_them(spec: KernelSpec, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="make bench"):
        make_kernel_table(spec, runs=tmp_path, results=tmp_path / "results", benchmarks=tmp_path / "none")


def test_a_file_of_another_form_is_named(spec: KernelSpec, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"rows": [{}]}', encoding="utf-8")
    with pytest.raises(UserError, match=r"a.json is not what a benchmark writes"):
        read_kernel_table(spec, [tmp_path / "a.json"])


def test_times_of_the_cpu_are_taken_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = load_kernel_spec("kernels", "smoke")
    make_kernel_table(spec, runs=tmp_path / "runs", results=tmp_path / "results", benchmarks=tmp_path)
    (file,) = (tmp_path / "runs").glob("kernels/smoke-*/benchmark.json")
    content = json.loads(file.read_text(encoding="utf-8"))
    assert len(content["rows"]) == 34
    assert {row["backend"] for row in content["rows"]} == {None, "chunked", "recurrent"}
    assert all(0 < row["ms_p20"] <= row["ms"] <= row["ms_p80"] for row in content["rows"])
    # an interruption: half of the times are there, and are kept
    file.write_text(json.dumps({**content, "rows": content["rows"][:17]}), encoding="utf-8")
    capsys.readouterr()
    make_kernel_table(spec, runs=tmp_path / "runs", results=tmp_path / "results", benchmarks=tmp_path)
    assert capsys.readouterr().err.startswith("[18/34] ")
    assert json.loads(file.read_text(encoding="utf-8"))["rows"][:17] == content["rows"][:17]
    # only written, or refused where something is missing
    rewritten = {"runs": tmp_path / "runs", "results": tmp_path / "results", "benchmarks": tmp_path, "measures": False}
    make_kernel_table(spec, **rewritten)
    assert capsys.readouterr().err == ""
    with pytest.raises(UserError, match=r"34 of 34 times of these sources on .* are not in .*: leave train=false out"):
        make_kernel_table(spec, **{**rewritten, "runs": tmp_path / "none"})
    assert not (tmp_path / "none").exists()
    names = {"table.md", "table.csv", "table.tex", "cells.json", "figure.png", "figure.svg"}
    assert {path.name for path in (tmp_path / "results" / "kernels" / "smoke").iterdir()} == names
