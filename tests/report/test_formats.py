from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from rla_exp.report import Table, render_rich
from rla_exp.report.caption import notes
from rla_exp.report.cells import to_cells
from rla_exp.report.delimited import to_csv
from rla_exp.report.markdown import to_markdown

if TYPE_CHECKING:
    from conftest import Runs

GAMMA, DASH = "\N{GREEK SMALL LETTER GAMMA} = 1", "\N{EN DASH}"


def test_markdown(table: Table) -> None:
    assert to_markdown(table) == (Path(__file__).parent / "small.md").read_text(encoding="utf-8")


def test_markdown_escapes_what_it_would_read_as_markup(runs: Runs) -> None:
    content = runs.root.parent / "table" / "small.yaml"
    text = content.read_text(encoding="utf-8").replace("label: accuracy", 'label: "|*_`<accuracy>"')
    content.write_text(text, encoding="utf-8")
    spec = type(runs.spec).load("small", "cpu", folder=content.parent)
    header = to_markdown(type(runs)(spec, runs.root, runs.folders).collect()).splitlines()[2]
    assert r"| MQAR: \|\*\_\`\<accuracy> ↑ |" in header


def test_csv_holds_plain_numbers_and_leaves_empty_what_is_unknown(table: Table) -> None:
    header, *rows = csv.reader(to_csv(table).splitlines())
    assert header[:8] == [
        "group",
        "row",
        "label",
        *(f"accuracy:{name}" for name in ("mean", "sd", "n", "low", "high")),
    ]
    assert len(header) == 3 + 11 * 6
    cells = {(row[0], row[1]): dict(zip(header, row, strict=True)) for row in rows}
    assert list(cells) == [(group, row) for group in ("rla", "rdn") for row in ("full", "no_clip", "value_state")]
    full = cells["rla", "full"]
    assert (full["accuracy:mean"], full["accuracy:n"], full["bits:mean"], full["bits:sd"]) == (
        "0.92",
        "3",
        "2.125",
        "0.125",
    )
    assert float(full["accuracy:sd"]) == pytest.approx(0.02, rel=1e-13)
    # mean 0.92, sd 0.02, n 3: half the interval is 4.302653 * 0.02 / sqrt(3)
    assert float(full["accuracy:high"]) == pytest.approx(0.92 + 0.04968275, rel=1e-7)
    assert full["accuracy:difference"] == ""
    # -0.40, -0.41, -0.39: t = -40 sqrt(3), and P(|T| > t) = 1 - t / sqrt(2 + t^2) with 2 degrees of freedom
    clipped = cells["rla", "no_clip"]
    assert float(clipped["accuracy:difference"]) == pytest.approx(-0.4, rel=1e-13)
    assert float(clipped["accuracy:difference_low"]) == pytest.approx(-0.4 - 0.024841375, rel=1e-7)
    assert float(clipped["accuracy:p"]) == pytest.approx(1 - math.sqrt(4800 / 4802), rel=1e-6)
    failed = cells["rdn", "value_state"]
    assert [failed[f"accuracy:{name}"] for name in ("mean", "sd", "n", "failed", "missing")] == ["", "", "0", "3", "0"]
    assert [failed[f"bits:{name}"] for name in ("mean", "sd", "n", "failed", "missing")] == ["", "", "0", "0", "3"]
    # not run at this scale: nothing, not even a count
    assert [cells["rla", "no_clip"][f"bits:{name}"] for name in ("mean", "sd", "n", "failed", "missing")] == [""] * 5


def test_cells_lead_back_to_their_runs(table: Table) -> None:
    content = to_cells(table)
    assert json.loads(json.dumps(content, allow_nan=False)) == content
    assert (content["table"], content["scale"], content["seeds"], content["mixed"]) == (
        "small",
        "cpu",
        [0, 1, 2],
        False,
    )
    assert content["notes"] == notes(table)
    assert [row["group_label"] for row in content["rows"]] == ["RLA"] * 3 + ["RDN"] * 3
    assert len(content["cells"]) == 6 * 6
    cell = next(
        c for c in content["cells"] if (c["group"], c["row"], c["column"]) == ("rla", "value_state", "accuracy")
    )
    assert cell["values"] == {"mqar/seed0": 0.95, "mqar/seed2": 0.93}
    assert cell["mean"] == pytest.approx(0.94, rel=1e-14)
    difference = cell.pop("difference")
    # 0.05 and -0.01: sd 0.06 / sqrt(2), half width 12.7062 * 0.03
    assert (difference["reference"], difference["n"]) == ("full", 2)
    assert difference["sd"] == pytest.approx(0.06 / 2**0.5, rel=1e-12)
    assert difference["half_width"] == pytest.approx(12.7062047 * 0.03, rel=1e-7)
    # t = 2/3 with 1 degree of freedom
    assert difference["p"] == pytest.approx(1 - 2 * math.atan(2 / 3) / math.pi, rel=1e-9)
    assert cell.pop("half_width") == pytest.approx(12.7062047 * 0.01, rel=1e-7)
    selection = cell.pop("selection")
    assert (selection["metric"], selection["mean"]) == ("valid/accuracy", pytest.approx(0.94, rel=1e-14))
    folder = "default/rla-value_state-mqar-00000000"
    error = "loss is not finite at step 7, beginning in blocks.0.mixer"
    for key in ("values", "mean", "sd"):
        del cell[key]
    assert cell == {
        "group": "rla",
        "row": "value_state",
        "column": "accuracy",
        "metric": "test/accuracy",
        "text": "0.940 ± 0.014, failed (1 of 3)",
        "planned": 3,
        "failed": 1,
        "missing": 0,
        "n": 2,
        "min": 0.93,
        "max": 0.95,
        "best": False,
        "mark": None,
        "runs": [
            {"study": "mqar", "seed": 0, "state": "done", "folder": f"{folder}/seed0", "error": None},
            {"study": "mqar", "seed": 1, "state": "failed", "folder": f"{folder}/seed1", "error": error},
            {"study": "mqar", "seed": 2, "state": "done", "folder": f"{folder}/seed2", "error": None},
        ],
    }


def test_cells_of_missing_runs_hold_null_not_zero(table: Table) -> None:
    cells = {(c["group"], c["row"], c["column"]): c for c in to_cells(table)["cells"]}
    missing = cells["rdn", "full", "bits"]
    assert [missing[key] for key in ("n", "mean", "sd", "min", "max", "values")] == [0, None, None, None, None, {}]
    assert missing["selection"] == {"metric": "valid/bits", "mean": None}
    assert [run["folder"] for run in missing["runs"]] == [None] * 3
    assert cells["rla", "no_clip", "bits"]["planned"] == 0


def lines_shown(table: Table, *, final: bool, width: int) -> list[str]:
    console = Console(width=width, file=io.StringIO(), record=True)
    console.print(render_rich(table, final=final))
    return [" ".join(line.split()) for line in console.export_text().splitlines()]


def test_the_live_view_has_a_line_a_row(table: Table) -> None:
    lines = lines_shown(table, final=False, width=100)
    first = lines.index("RLA")
    assert lines[first : first + 4] == [
        "RLA",
        "full 0.920 2/3 21.2k 2.12 0/6",
        f"no_clip 0.520▼ 0/3 21.2k {DASH} 0/3",
        f"{GAMMA} 0.940 2/3 1k 2.38▼ 1/6",
    ]
    first = lines.index("RDN")
    assert lines[first : first + 4] == [
        "RDN",
        "full 0.970 2/2 1k missing 0/2",
        f"no_clip missing missing missing {DASH} missing",
        f"{GAMMA} failed 0/3 failed missing 3/3",
    ]
    counts = "scale cpu: 16 of 30 runs done, 4 failed; means so far, dim where runs are missing"
    assert " ".join(lines[-2:]).strip() == counts


def test_the_final_view_has_spreads_and_notes(table: Table) -> None:
    lines = lines_shown(table, final=True, width=200)
    assert "full 0.920 ± 0.020 2 of 3 4 KiB 21.2k ± 0.2k 2.12 ± 0.12 0 of 6" in lines
    assert f"no_clip 0.520 ± 0.026 ▼ 0 of 3 8 KiB 21.2k ± 0.2k {DASH} 0 of 3" in lines
    assert "Learning rate: one value." in lines


def test_a_warning_stands_first(one_seed: Runs) -> None:
    for row in ("rla/full", "rla/no_clip", "rdn/full", "rdn/no_clip"):
        one_seed.mqar(row, 7, 0.5, 0.5)
    table = one_seed.collect()
    assert notes(table) == [
        "Numbers mean nothing.",
        "A small table. Larger.",
        "One seed (7), so that nothing is known about the spread.",
        "Learning rate: tuned.",
        "learned: seeds that ended above 0.9 in MQAR test/accuracy; a failed seed has not learned.",
        "All runs: source 0123456789ab; device a processor.",
    ]
    assert lines_shown(table, final=False, width=100)[0] == "Numbers mean nothing."
    assert to_markdown(table).splitlines()[2] == "**Numbers mean nothing.**"
