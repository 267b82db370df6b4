"""Columns beside plain metrics: traces over training, evaluation scores, others' numbers, diverged runs."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from rla_exp.errors import ConfigError
from rla_exp.report import MixedRunsError, TableSpec
from rla_exp.report.caption import notes
from rla_exp.report.cells import to_cells
from rla_exp.report.columns import MetricColumn, TraceColumn, selection_metric
from rla_exp.report.delimited import to_csv
from rla_exp.report.domains import with_domain_columns
from rla_exp.report.figure import draw_figure
from rla_exp.report.markdown import to_markdown
from rla_exp.report.outcome import Outcome, lacking_scores, read_outcomes
from rla_exp.report.traces import put_together, trace

if TYPE_CHECKING:
    from conftest import Runs

COLUMNS = """
  norm: {kind: trace, study: mqar, label: norm, metric: "diag/layer*/S_norm", format: .1f, figure: true, log: true}
  needle: {kind: score, study: mqar, suite: niah, label: needle, metric: single/accuracy, direction: max, format: .2f}
  paper:
    {kind: reported, source: residual_learning, value: wikitext_perplexity, label: paper (as reported), format: .2f}
  diverged: {kind: diverged, study: mqar, label: diverged}
"""


@pytest.fixture
def more(table_text: str, runs_of: Callable[[str], Runs]) -> Runs:
    """The small table with more kinds of columns; two rows of RLA, of which no_clip diverges with seed 1."""
    text = table_text.replace("figure: true}", "figure: false}").replace("\nscales:", COLUMNS + "\nscales:")
    text = text.replace("reference: full\n", "reference: rdn\nfigure: curves\n").replace("  full: {", "  rdn: {", 1)
    runs = runs_of(text.replace("rows: [full, ", "rows: [rdn, "))
    for seed in range(3):
        runs.mqar("rla/rdn", seed, 0.9, 0.9)
        lines(runs, "rla/rdn", seed, [(10, 1.0, 2.0), (20, 4.0 + seed, 3.0), (30, 2.0, 1.0)])
        if seed != 1:
            runs.mqar("rla/no_clip", seed, 0.8, 0.8)
            lines(runs, "rla/no_clip", seed, [(30, 7.0, 8.0)])
    runs.status("rla/no_clip", "mqar", 1, "failed", "NonFiniteError: loss is not finite at step 15, beginning in x")
    lines(runs, "rla/no_clip", 1, [(10, 50.0, None)])
    runs.status("rdn/no_clip", "mqar", 0, "failed", "RuntimeError: out of memory")
    return runs


def lines(runs: Runs, row: str, seed: int, points: list[tuple[int, float, float | None]]) -> None:
    text = [json.dumps({"step": 5, "train/loss": 1.0})]
    text += [
        json.dumps({"step": step, "diag/layer0/S_norm": first, "diag/layer11/S_norm": second, "diag/R_norm": 99.0})
        for step, first, second in points
    ]
    (runs.folder(row, "mqar", seed) / "metrics.jsonl").write_text("\n".join(text) + "\n", encoding="utf-8")


def evaluate(
    runs: Runs,
    row: str,
    seed: int,
    accuracy: float,
    metric: str = "accuracy",
    data: str = "generated",
    sources: str = "abc",
    **settings: Any,
) -> None:
    folder = runs.folder(row, "mqar", seed) / "evaluations"
    folder.mkdir(exist_ok=True)
    score = {"value": accuracy, "stderr": None, "higher_is_better": True}
    task = {"version": 1, "n": 10, "seconds": 1.0, "data": data, "details": [], "metrics": {metric: score}}
    settings = {"context": "full", "limit": None, "step": 100, "checkpoint_sha256": f"{row}{seed}"} | settings
    provenance = {"sources": sources, "device": "a CPU"}
    content = {"suite": "niah", "settings": settings, "provenance": provenance, "tasks": {"single": task}}
    (folder / "niah.json").write_text(json.dumps(content), encoding="utf-8")


@pytest.mark.parametrize(
    ("layers", "steps", "points", "number"),
    [
        ("max", "max", [(1, 4.0), (3, 5.0)], 5.0),
        ("mean", "mean", [(1, 3.0), (3, 5.0)], 4.0),
        ("mean", "last", [(1, 3.0), (3, 5.0)], 5.0),
    ],
)
def test_layers_and_steps_are_put_together(
    layers: str, steps: str, points: list[tuple[int, float]], number: float
) -> None:
    column = TraceColumn.model_validate(
        {
            "kind": "trace",
            "study": "x",
            "label": "x",
            "metric": "l*/n",
            "layers": layers,
            "steps": steps,
            "format": ".1f",
        }
    )
    found = trace(
        [{"step": 1, "l0/n": 2.0, "l1/n": 4.0}, {"step": 2, "l/n": 9.0}, {"step": 3, "l0/n": 5.0, "l1/n": None}], column
    )
    assert found == points
    assert put_together(found, column) == number
    assert put_together([], column) is None


def test_a_trace_is_the_largest_over_layers_and_steps_of_each_run(more: Runs) -> None:
    table = more.collect()
    cell = table.cells["rla/rdn", "norm"]
    assert cell.values == {"mqar/seed0": 4.0, "mqar/seed1": 5.0, "mqar/seed2": 6.0}
    assert cell.text == "5.0 ± 1.0"
    # a diverged run counts up to its end
    assert table.cells["rla/no_clip", "norm"].values == {"mqar/seed0": 8.0, "mqar/seed1": 50.0, "mqar/seed2": 8.0}


def test_a_finished_run_without_the_diagnostic_is_refused(more: Runs) -> None:
    (more.folder("rla/rdn", "mqar", 0) / "metrics.jsonl").unlink()
    with pytest.raises(ConfigError, match=r"columns.norm: .*key diag/layer\*/S_norm is unknown"):
        more.collect()


def test_diverged_runs_are_counted_apart_from_other_failures(more: Runs) -> None:
    cells = more.collect().cells
    assert cells["rla/no_clip", "diverged"].text == "1 of 3"
    assert cells["rla/rdn", "diverged"].text == "0 of 3"
    assert cells["rdn/no_clip", "diverged"].text == "0 of 1, missing (2 of 3)"


def test_a_run_that_is_not_evaluated_is_missing_in_that_column_alone(more: Runs) -> None:
    for seed, accuracy in {0: 0.2, 2: 0.4}.items():
        evaluate(more, "rla/rdn", seed, accuracy)
        evaluate(more, "rla/no_clip", seed, accuracy + 0.5)
    cells = more.collect().cells
    assert cells["rla/rdn", "needle"].text == "0.30 ± 0.14, missing (1 of 3)"
    assert cells["rla/rdn", "accuracy"].gaps == ""
    assert cells["rla/no_clip", "needle"].text == "0.80 ± 0.14, failed (1 of 3)"
    difference = cells["rla/no_clip", "needle"].difference
    assert difference is not None
    assert (difference.n, difference.mean) == (2, pytest.approx(0.5))
    # while a number is missing, nothing is best
    assert not any(cells[row, "needle"].best for row in ("rla/rdn", "rla/no_clip"))


@pytest.mark.parametrize(
    ("other", "usual", "unusual"),
    [
        ({"limit": 2}, "limit None", "limit 2"),
        ({"step": 10}, "step 100", "step 10"),
        ({"context": "windowed(64)", "limit": 1}, "context full, limit None", "context windowed(64), limit 1"),
        ({"data": "files:1f"}, "documents of single generated", "documents of single files:1f"),
        ({"sources": "xyz"}, "evaluated by sources abc", "evaluated by sources xyz"),
    ],
)
def test_scores_under_other_conditions_are_not_put_beside_each_other(
    more: Runs, other: dict[str, Any], usual: str, unusual: str
) -> None:
    for seed in range(3):
        evaluate(more, "rla/rdn", seed, 0.5)
    assert "scores of niah: context full, limit None." in notes(more.collect())[-1]
    evaluate(more, "rla/rdn", 2, 0.5, **other)
    with pytest.raises(MixedRunsError) as caught:
        more.collect()
    differs = f"scores of niah differs: {usual} (2 runs), {unusual} (1 run)"
    lines = str(caught.value).splitlines()
    assert lines[1] == f"  - {differs}; not {usual}:"
    assert lines[2].endswith(f"/seed2 ({unusual})")
    assert lines[3].startswith("Remove evaluations/niah.json in these runs' folders and run the table again, ")
    assert any(differs in note for note in notes(more.collect(mixed=True)) if note.startswith("MIXED"))


def test_finished_runs_that_lack_scores_are_told(more: Runs) -> None:
    def lacking() -> list[str]:
        return lacking_scores(more.spec, read_outcomes(more.spec, more.folders))

    done = sum(run.state == "done" for run in read_outcomes(more.spec, more.folders))
    assert lacking() == [f"needle: {done} of {done} finished runs are not scored on niah/single"]
    for row in ("rla/rdn", "rla/no_clip"):
        for seed in range(3):
            if (row, seed) != ("rla/rdn", 1):
                evaluate(more, row, seed, 0.5)
    left = sum(run.state == "done" and not run.scores for run in read_outcomes(more.spec, more.folders))
    assert 0 < left < done
    assert lacking() == [f"needle: {left} of {done} finished runs are not scored on niah/single"]
    evaluate(more, "rla/rdn", 1, 0.5)
    assert len(lacking()) == (left > 1)


def test_a_score_that_an_evaluation_lacks_is_refused(more: Runs) -> None:
    evaluate(more, "rla/rdn", 0, 0.5, metric="acc")
    with pytest.raises(
        ConfigError, match=r"columns.needle: .*eval/niah/single/accuracy is unknown; known: eval/niah/sin"
    ):
        more.collect()


def test_reported_numbers_stand_apart_and_are_never_compared(more: Runs) -> None:
    table = more.collect()
    cell = table.cells["rla/rdn", "paper"]
    assert (cell.text, cell.runs, cell.best, cell.mark, cell.difference) == ("16.57", (), False, None, None)
    assert table.cells["rla/no_clip", "paper"].text == "\N{EN DASH}"
    (note,) = [note for note in notes(table) if note.startswith("paper (as reported)")]
    assert "not ours" in note
    assert "https://arxiv.org/abs/2509.25223, table 2" in note
    content = to_cells(table)
    assert content["reported"]["residual_learning"]["url"] == "https://arxiv.org/abs/2509.25223"
    found = next(c for c in content["cells"] if (c["group"], c["row"], c["column"]) == ("rla", "rdn", "paper"))
    assert (found["reported"]["where"], found["mean"], found["runs"]) == ("table 2", None, [])
    header, first, *_ = csv.reader(to_csv(table).splitlines())
    assert dict(zip(header, first, strict=True))["paper:mean"] == "16.57"
    assert "paper (as reported)" not in to_markdown(table).partition("### Intervals")[2]


def test_reported_numbers_stand_beside_the_groups_that_they_are_for(more: Runs, tmp_path: Path) -> None:
    path = tmp_path / "table" / "small.yaml"
    text = path.read_text()
    for groups, shown in (
        ("[rdn]", {"rdn/rdn"}),
        ("[rdn, rla]", {"rla/rdn", "rdn/rdn"}),
        ("null", {"rla/rdn", "rdn/rdn"}),
    ):
        path.write_text(text.replace("value: wikitext_perplexity", f"value: wikitext_perplexity, groups: {groups}"))
        table = replace(more, spec=TableSpec.load("small", "cpu", folder=path.parent)).collect()
        assert {row for (row, key), cell in table.cells.items() if key == "paper" and cell.text == "16.57"} == shown
    path.write_text(text.replace("value: wikitext_perplexity", "value: wikitext_perplexity, groups: [rdm]"))
    with pytest.raises(ConfigError, match=r"columns.paper.groups: group rdm is unknown; known: .*; did you mean rdn?"):
        TableSpec.load("small", "cpu", folder=path.parent)


def test_an_unknown_reported_value_is_refused(more: Runs, tmp_path: Path) -> None:
    path = tmp_path / "table" / "small.yaml"
    path.write_text(path.read_text().replace("wikitext_perplexity", "wikitext_perplexit"))
    with pytest.raises(ConfigError, match="did you mean wikitext_perplexity"):
        TableSpec.load("small", "cpu", folder=path.parent)


def test_curves_show_every_run_and_where_one_diverged(more: Runs) -> None:
    figure = draw_figure(more.collect())
    rla, rdn = figure.axes
    drawn = [([*map(float, line.get_xdata())], [*map(float, line.get_ydata())]) for line in rla.lines]
    assert drawn == [
        ([10.0, 20.0, 30.0], [2.0, 4.0, 2.0]),
        ([10.0, 20.0, 30.0], [2.0, 5.0, 2.0]),
        ([10.0, 20.0, 30.0], [2.0, 6.0, 2.0]),
        ([30.0], [8.0]),
        ([10.0], [50.0]),
        # the cross
        ([10.0], [50.0]),
        ([30.0], [8.0]),
    ]
    assert [line.get_marker() for line in rla.lines[-3:]] == ["None", "x", "None"]
    assert rla.get_yscale() == "log"
    assert not rdn.lines


def test_domains_have_columns_of_their_own_behind_the_whole() -> None:
    spec = TableSpec.load("backbones", "gpu")
    request = next(run for run in spec.runs() if run.study == "text")
    metrics = {f"test/bits_per_byte@{name}": 1.0 for name in ("fiction", "gov", "2048")}
    shown = with_domain_columns(spec, [Outcome(request, "done", "folder", metrics)])
    keys = list(shown.columns)
    at = keys.index("bits_per_byte")
    # 2048 is a length
    assert keys[at : at + 3] == ["bits_per_byte", "bits_per_byte@fiction", "bits_per_byte@gov"]
    assert set(keys) - set(spec.columns) == {"bits_per_byte@fiction", "bits_per_byte@gov"}
    column = shown.columns["bits_per_byte@gov"]
    assert isinstance(column, MetricColumn)
    assert (column.metric, column.label) == ("test/bits_per_byte@gov", "bits per byte, gov")
    # never by the test split
    assert selection_metric(column) == "valid/bits_per_byte"
    assert with_domain_columns(spec, []).columns == spec.columns
