"""Heat maps of needles and recall against state size, from hand-made runs."""

from __future__ import annotations

import csv

import pytest
import yaml

from rla_exp.cli.plot import main
from rla_exp.errors import RunError
from rla_exp.report.finished_runs import find_runs
from rla_exp.report.heatmap import draw_heatmaps, heat_cells
from rla_exp.report.outcome import MixedRunsError
from rla_exp.report.recall_plot import draw_recall, recall_points
from rla_exp.runs import Result
from rla_exp.runs.evaluations import Evaluation, Score, TaskScores, write_evaluation
from rla_exp.runs.result import write_result


@pytest.fixture
def make_run(tmp_path):
    """(model, seed, accuracy=..., state_bytes=..., name=..., sources=...): a finished run's folder."""

    def make(model, seed, *, accuracy=0.5, state_bytes=1024, ablation="full", name="a1", sources="s"):
        path = tmp_path / "runs" / "study" / f"{model}-{ablation}-mqar-{name}" / f"seed{seed}"
        path.mkdir(parents=True)
        config = {"model": {"name": model}, "ablation": ablation, "seed": seed}
        (path / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
        metrics = {"test/accuracy": accuracy, "state_bytes": float(state_bytes)}
        write_result(path, Result(metrics, {}, {"sources": sources, "device": "cpu", "corpus_sha256": None}))
        return path

    return make


def _evaluate(path, accuracy, tasks=("needle_single_1", "needle_multi_key_1"), *, seed=0):
    settings = {"context": "full", "seed": seed, "checkpoint_sha256": str(path)}
    scores = TaskScores(
        version=1.0,
        n=24,
        metrics={"accuracy": Score(accuracy(512, 0.0), None, True)},
        seconds=1.0,
        data="generated",
        details=[
            {"length": length, "depth": depth, "accuracy": accuracy(length, depth), "stderr": None, "n": 4}
            for length in (512, 1024)
            for depth in (0.0, 0.5, 1.0)
        ],
    )
    write_evaluation(path, Evaluation("niah", settings, {}, dict.fromkeys(tasks, scores)))


def test_seeds_become_a_mean_with_its_spread(make_run, tmp_path):
    for seed, accuracy in enumerate((0.5, 0.7, 0.9)):
        make_run("rla", seed, accuracy=accuracy)
    make_run("rla", 0, accuracy=0.95, state_bytes=4096, name="b2")
    make_run("rla", 0, accuracy=0.25, ablation="no_clip")
    points = recall_points(find_runs([str(tmp_path / "runs")]), "test/accuracy")
    assert [(point.model, point.state_bytes, point.n) for point in points] == [
        ("rla", 1024, 3),
        ("rla", 4096, 1),
        ("rla, no_clip", 1024, 1),
    ]
    assert points[0].mean == pytest.approx(0.7)
    assert points[0].sd == pytest.approx(0.2)
    assert points[1].sd is None
    assert points[0].group == "study/rla-full-mqar-a1"


def test_the_recall_figure_shows_means_and_error_bars(make_run, tmp_path):
    for seed, accuracy in enumerate((0.5, 0.7, 0.9)):
        make_run("rla", seed, accuracy=accuracy)
        make_run("rdn", seed, accuracy=accuracy / 2, state_bytes=2048)
    points = recall_points(find_runs([str(tmp_path / "runs")]), "test/accuracy")
    (ax,) = draw_recall(points, "test/accuracy").axes
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["rdn", "rla"]
    (bar,) = [container for container in ax.containers if container.get_label() == "rla"]
    (segment,) = bar.lines[2][0].get_segments()
    assert segment.tolist() == [[1024, pytest.approx(0.5)], [1024, pytest.approx(0.9)]]
    assert ax.get_title() == "mean ± sample sd over 3 seeds"


def test_heat_cells_are_means_over_seeds(make_run, tmp_path):
    for seed in (0, 1):
        _evaluate(make_run("rdn", seed), lambda length, depth, seed=seed: 0.5 * depth + 0.5 * seed * (length == 512))
    cells = heat_cells(find_runs([str(tmp_path / "runs")]), "niah")
    assert len(cells) == 2 * 2 * 3
    (cell,) = [cell for cell in cells if (cell.task, cell.length, cell.depth) == ("needle_single_1", 512, 0.5)]
    assert (cell.accuracy, cell.n, cell.seeds, cell.model) == (0.5, 8, 2, "rdn")


def test_a_map_has_its_lengths_across_and_depths_down(make_run, tmp_path):
    _evaluate(make_run("rdn", 0), lambda length, depth: depth if length == 512 else 1.0)
    _evaluate(make_run("rla", 0), lambda _, depth: 0 * depth)
    figure = draw_heatmaps(heat_cells(find_runs([str(tmp_path / "runs")]), "niah"))
    *maps, _ = figure.axes
    assert len(maps) == 2 * 2
    (image,) = maps[0].get_images()
    assert image.get_array().tolist() == [[0.0, 1.0], [0.5, 1.0], [1.0, 1.0]]
    assert [ax.get_title() for ax in maps] == ["single 1", "multi key 1", "", ""]
    assert maps[0].get_ylabel().startswith("rdn")
    assert [label.get_text() for label in maps[2].get_xticklabels()] == ["512", "1k"]


def test_plots_are_written_and_repeat(make_run, tmp_path, capsys):
    make_run("rla", 0, accuracy=0.25)
    _evaluate(make_run("rdn", 0), lambda _, depth: depth)
    for words in (
        ["plot=recall", f"runs={tmp_path}/runs"],
        ["plot=recall", f"runs={tmp_path}/runs/study/rdn*", "score=eval/niah/needle_single_1/accuracy"],
        ["plot=needles", f"runs={tmp_path}/runs/study/rdn*", "tasks=needle_single_1"],
    ):
        contents = []
        for _ in range(2):
            assert main([*words, f"out={tmp_path}/out"]) == 0
            contents.append({file.name: file.read_bytes() for file in (tmp_path / "out").iterdir()})
        assert contents[0] == contents[1]
        assert set(contents[0]) == {"data.csv", "data.json", "figure.png", "figure.svg"}
    rows = list(csv.DictReader((tmp_path / "out" / "data.csv").read_text(encoding="utf-8").splitlines()))
    assert len(rows) == 6
    assert rows[1]["accuracy"] == "0.5"
    assert "figure.png" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], "plot is not set"),
        (["plot=heat"], "plot is 'heat'; allowed: needles or recall"),
        (["plot=needles", "score=x"], "score: has no effect with plot=needles"),
        (["plot=recall", "suite=x", "tasks=y"], "2 problems"),
        (["plot=recall", "runs=nowhere"], "runs=nowhere: no finished run is there"),
        (["plot=recall", "score=test/acuracy"], "it has state_bytes, test/accuracy; did you mean test/accuracy?"),
        (["plot=recall", "score=eval/recall/swde/contains"], "has no recall yet: python scripts/evaluate.py"),
        (["plot=needles"], "scripts/evaluate.py run="),
    ],
)
def test_bad_settings(words, expected, make_run, tmp_path, monkeypatch, capsys):
    make_run("rla", 0)
    monkeypatch.chdir(tmp_path)
    assert main(words) == 1
    assert expected in capsys.readouterr().err


def test_runs_of_different_sources_do_not_mix(make_run, tmp_path):
    make_run("rla", 0)
    make_run("rla", 1, sources="other")
    with pytest.raises(MixedRunsError, match="differ in their sources"):
        find_runs([str(tmp_path)])
    assert len(find_runs([str(tmp_path)], mixed=True)) == 2


def test_evaluations_under_different_settings_do_not_mix(make_run, tmp_path):
    for seed in (0, 1):
        _evaluate(make_run("rdn", seed), lambda _, depth: depth, seed=seed)
    runs = find_runs([str(tmp_path)])
    with pytest.raises(MixedRunsError, match="differ in their seed"):
        heat_cells(runs, "niah")
    with pytest.raises(MixedRunsError, match="differ in their seed"):
        recall_points(runs, "eval/niah/needle_single_1/accuracy")
    assert len(heat_cells(runs, "niah", mixed=True)) == 2 * 2 * 3


def test_a_missing_task_is_named(make_run, tmp_path):
    _evaluate(make_run("rdn", 0), lambda _, depth: depth)
    with pytest.raises(RunError, match=r"tasks=needle_x: .* has only needle_multi_key_1, needle_single_1"):
        heat_cells(find_runs([str(tmp_path)]), "niah", ("needle_x",))
