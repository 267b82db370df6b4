"""docs/kernels.md says what the code computes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rla_exp.bench.documents import costs_table, floors, replace_part, storage_table
from rla_exp.cli.kernel_docs import main

DOCS = Path(__file__).parents[2] / "docs"


def test_the_page_is_up_to_date() -> None:
    text = (DOCS / "kernels.md").read_text(encoding="utf-8")
    assert replace_part(text, "costs", costs_table()) == text, "run scripts/kernel_docs.py"
    assert replace_part(text, "storage", storage_table()) == text, "run scripts/kernel_docs.py"
    for figure in ("kernels.png", "hopper.png"):
        assert f"(figures/{figure})" in text
        assert (DOCS / "figures" / figure).is_file()


def test_sums_of_the_tables() -> None:
    # RDN keeps r (256 bytes), two float32 states every 1,024 tokens (128) and two inverses (256)
    assert "| **together** | saved | **64** | **192** | **384** | **640** |" in storage_table()
    # rows and matrices, a state before every chunk and what it holds at k
    assert f"**{48 + 3 * 128 + 512 + 256:,}** |" in storage_table()


def test_floors_come_from_benchmarks_of_the_kernels(content: dict[str, Any]) -> None:
    assert "No benchmark" in floors([{**content, "backend": "chunked"}])
    table = floors([content])
    assert "NVIDIA H100 80GB HBM3, 3,000 GB/s and 750 TFLOP/s" in table
    # 32,768 tokens of 16 heads, 3000 GB/s
    times = " | ".join(f"{32768 * 16 * moved / 3000e9 * 1e6:.0f} (memory)" for moved in (692, 820, 1084, 1340))
    assert f"| prepare | {times} |" in table
    # inverses, rows and the kernel for Hopper of Gated DeltaNet, which memory bounds
    assert f" {32768 * 16 * (392 + 52 + 1200) / 3000e9 * 1e6:.0f} |" in table.partition("gradients, on Hopper**")[2]


def test_the_command_writes_in_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    marks = "".join(f"<!-- {name} -->\noutdated\n<!-- end of {name} -->\n" for name in ("costs", "storage", "floors"))
    (tmp_path / "kernels.md").write_text(f"before\n{marks}after\n")
    assert main([f"docs={tmp_path}", f"benchmarks={tmp_path}"]) == 0
    text = (tmp_path / "kernels.md").read_text()
    assert costs_table() in text
    assert "outdated" not in text
    assert {file.name for file in (tmp_path / "figures").iterdir()} == {"kernels.png", "hopper.png"}
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    (tmp_path / "kernels.md").write_text("no marks")
    assert main([f"docs={tmp_path}", f"benchmarks={tmp_path}"]) == 1
    assert "there is no <!-- costs -->" in capsys.readouterr().err
