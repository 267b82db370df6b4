"""The choice of learning rates, on results made by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from rla_exp.config import compose
from rla_exp.errors import ConfigError
from rla_exp.report import RunRequest, TableSpec, collect
from rla_exp.report.caption import notes
from rla_exp.report.cells import to_cells
from rla_exp.report.columns import Direction
from rla_exp.report.learning_rate import Choice, choose_learning_rates, selection_runs, tie_runs
from rla_exp.report.spec_file import LearningRateRule
from rla_exp.report.write import write_table

RULE = """
    learning_rates:
      mqar: {candidates: [1e-3, 1e-2, 1e-1], seeds: [0, 1], share: 0.25, metric: valid/accuracy, direction: max}
"""


@pytest.fixture
def spec(tables: Path) -> TableSpec:
    """The small table at its large scale (two groups of two rows, one study), with a rule."""
    path = tables / "small.yaml"
    text = path.read_text(encoding="utf-8").replace(
        "mqar: {rows: [full, no_clip]}", "mqar: {rows: [full, no_clip], overrides: [trainer.max_steps=10]}"
    )
    text = text.replace("  speed:", "  rate: {kind: learning_rate, study: mqar, label: rate}\n  speed:")
    path.write_text(text.rstrip("\n") + RULE, encoding="utf-8")
    return TableSpec.load("small", "large", folder=tables)


def scored(spec: TableSpec, root: Path, scores: dict[float, tuple[float, float]]) -> dict[RunRequest, Path]:
    """Every run of the choice with these scores of seeds 0 and 1, by learning rate; a negative one diverged."""
    folders = {}
    for index, request in enumerate(selection_runs(spec)):
        assert request.tried_lr is not None
        folders[request] = root / str(index) / f"seed{request.seed}"
        folders[request].mkdir(parents=True)
        score = scores[request.tried_lr][request.seed]
        if score < 0:
            status = {"state": "failed", "error": "NonFiniteError: loss is not finite at step 2, beginning in x"}
            (folders[request] / "status.json").write_text(json.dumps(status))
        else:
            content = {"metrics": {"valid/accuracy": score}, "timing": {}, "provenance": {}}
            (folders[request] / "result.json").write_text(json.dumps(content))
    return folders


def chosen(choices: list[Choice]) -> set[float | None]:
    assert [(choice.row, choice.study) for choice in choices] == [
        (row, "mqar") for row in ("rla/full", "rla/no_clip", "rdn/full", "rdn/no_clip")
    ]
    return {choice.lr for choice in choices}


def test_the_runs_of_a_choice_are_ordinary_ones_only_shorter(spec: TableSpec) -> None:
    runs = selection_runs(spec)
    # 4 rows, 3 candidates, 2 seeds
    assert len(runs) == len(set(runs)) == 24
    # a quarter of 10 steps, rounded to even
    assert {run.setting("trainer.max_steps") for run in runs} == {"2"}
    assert [run.setting("optim.lr") for run in runs[:3]] == ["0.001", "0.01", "0.1"]
    assert runs[0].label == "rla/full mqar lr 0.001 seed 0"
    assert [run.seed for run in runs] == [0] * 12 + [1] * 12


@pytest.mark.parametrize(
    ("overrides", "kept"),
    [
        # candidates have 8 of 32 steps
        ("trainer.diagnostics_every=8", "8"),
        ("trainer.diagnostics_every=9", "null"),
        ("trainer.diagnostics_every=null", "null"),
        # every 200 steps by conf/trainer/gpu.yaml, never by cpu.yaml
        ("trainer=gpu", "null"),
        ("trainer=cpu", None),
        ("trainer=gpu, trainer.diagnostics_every=4", "4"),
    ],
)
def test_diagnostics_that_would_never_come_are_left_out(
    tables: Path, spec: TableSpec, overrides: str, kept: str | None
) -> None:
    path = tables / f"{spec.name}.yaml"
    path.write_text(path.read_text().replace("trainer.max_steps=10", f"trainer.max_steps=32, {overrides}"))
    runs = selection_runs(TableSpec.load("small", "large", folder=tables))
    assert {run.setting("trainer.max_steps") for run in runs} == {"8"}
    assert {run.setting("trainer.diagnostics_every") for run in runs} == {kept}


@pytest.mark.parametrize(("share", "steps"), [(1.0, "100"), (0.996, "100"), (0.99, "99")])
def test_candidates_of_all_steps_are_the_tables_own_runs(tables: Path, share: float, steps: str) -> None:
    path = tables / "small.yaml"
    # what a part of the steps goes without, the whole has
    every = "trainer.validate_every=50, trainer.checkpoint_every=50, trainer.diagnostics_every=100"
    overrides = f"trainer.max_steps=100, {every}"
    text = path.read_text().replace("rows: [full, no_clip]}", f"rows: [full, no_clip], overrides: [{overrides}]}}")
    path.write_text(text.rstrip("\n") + RULE.replace("share: 0.25", f"share: {share}"))
    spec = TableSpec.load("small", "large", seeds=[0, 1], folder=tables)
    runs = selection_runs(spec)
    assert {run.setting("trainer.max_steps") for run in runs} == {steps}
    tried = {request: compose(request.overrides).resolved for request in runs}
    for lr in spec.rules["mqar"].candidates:
        for own in spec.with_learning_rates({(row.id, "mqar"): lr for row in spec.rows}).runs():
            (same,) = (run for run in runs if (run.row, run.seed, run.tried_lr) == (own.row, own.seed, lr))
            assert (tried[same] == compose(own.overrides).resolved) == (steps == "100")


def test_short_candidates_with_the_trainers_own_diagnostics_are_runs() -> None:
    spec = TableSpec.load("backbones", "gpu")
    # 916 steps of which a candidate has 183; trainer=gpu has diagnostics every 200, which compose would refuse
    rule = LearningRateRule(candidates=[1e-3, 1e-2], seeds=[0], share=0.2, metric="valid/loss", direction="min")
    runs = selection_runs(replace(spec, rules={"text_small": rule}))
    trainer = compose(runs[0].overrides).config.trainer
    assert (trainer.max_steps, trainer.diagnostics_every) == (183, None)


def test_the_best_mean_on_validation_data_is_chosen(spec: TableSpec, tmp_path: Path) -> None:
    folders = scored(spec, tmp_path, {1e-3: (0.5, 0.6), 1e-2: (0.9, 0.3), 1e-1: (0.2, 0.2)})
    choices = choose_learning_rates(spec, folders)
    assert chosen(choices) == {1e-2}
    assert [c.score for c in choices[0].candidates] == pytest.approx([0.55, 0.6, 0.2])
    assert not choices[0].at_edge
    runs = spec.with_learning_rates({(c.row, c.study): c.lr or 0.0 for c in choices}).runs()
    assert {(run.setting("optim.lr"), run.setting("trainer.max_steps")) for run in runs} == {("0.01", "10")}


def test_a_candidate_that_diverged_with_any_seed_is_out(spec: TableSpec, tmp_path: Path) -> None:
    folders = scored(spec, tmp_path, {1e-3: (0.5, 0.6), 1e-2: (1.0, -1.0), 1e-1: (-1.0, -1.0)})
    choices = choose_learning_rates(spec, folders)
    assert chosen(choices) == {1e-3}
    assert choices[0].at_edge
    assert choices[0].candidates[1].score is None


def test_of_equal_scores_the_smaller_rate_is_taken(spec: TableSpec, tmp_path: Path) -> None:
    folders = scored(spec, tmp_path, {1e-3: (0.5, 0.5), 1e-2: (0.5, 0.5), 1e-1: (0.2, 0.2)})
    assert chosen(choose_learning_rates(spec, folders)) == {1e-3}


@pytest.mark.parametrize(
    ("direction", "margin", "scores", "tied", "lr"),
    [
        # the better mean of a near tie, though its first seed is the worse one
        ("max", 0.02, ((0.10, 0.9), (0.73, 0.7), (0.74, 0.0)), {1e-2, 1e-1}, 1e-2),
        ("min", 0.02, ((1.90, 0.9), (1.27, 1.3), (1.26, 2.0)), {1e-2, 1e-1}, 1e-2),
        # one beyond the margin stays out, whatever its other seeds would be
        ("max", 0.005, ((0.10, 0.9), (0.73, 0.9), (0.74, 0.0)), set(), 1e-1),
        ("max", 0.25, ((0.25, 0.9), (0.5, 0.7), (0.0, 1.0)), {1e-3, 1e-2}, 1e-2),
        # one that diverged is out, with its first seed or with another
        ("max", 1.0, ((-1.0, 0.9), (0.3, 0.5), (0.9, 0.0)), {1e-2, 1e-1}, 1e-1),
        ("max", 0.02, ((0.10, 0.9), (0.73, 0.2), (0.74, -1.0)), {1e-2, 1e-1}, 1e-2),
    ],
)
def test_other_seeds_decide_near_ties(
    spec: TableSpec,
    tmp_path: Path,
    direction: Direction,
    margin: float,
    scores: tuple[tuple[float, float], ...],
    tied: set[float],
    lr: float,
) -> None:
    rule = spec.rules["mqar"].model_copy(update={"direction": direction})
    assert rule.seeds == [0, 1]
    folders = scored(replace(spec, rules={"mqar": rule}), tmp_path, dict(zip(rule.candidates, scores, strict=True)))
    rule = rule.model_copy(update={"margin": margin, "seeds": [0], "tie_seeds": [1]})
    spec = replace(spec, rules={"mqar": rule})
    assert {run.tried_lr for run in tie_runs(spec, folders)} == tied
    assert {run.seed for run in tie_runs(spec, folders)} == ({1} if tied else set())
    assert chosen(choose_learning_rates(spec, folders)) == {lr}
    # until they are there nothing is chosen
    first = {run: folder for run, folder in folders.items() if run.seed == 0}
    assert chosen(choose_learning_rates(spec, first)) == ({None} if tied else {lr})
    assert tie_runs(spec, {}) == []


def test_the_table_says_how_near_ties_are_decided(spec: TableSpec) -> None:
    changed = {"share": 1.0, "margin": 0.02, "seeds": [0], "tie_seeds": [1, 2]}
    spec = replace(spec, rules={"mqar": spec.rules["mqar"].model_copy(update=changed)})
    sentence = (
        "MQAR: each row has of 0.001, 0.01, 0.1 the one with the highest mean valid/accuracy over seeds 0 of whole "
        "runs, the table's own among them; of those within 0.02 of it the one with the highest mean over seeds 0, 1, "
        "2; the test split has no part in it."
    )
    assert sentence in notes(collect(spec, {}, choices=choose_learning_rates(spec, {})))


@pytest.mark.parametrize(
    ("margin", "problem"),
    [
        ("-0.1", r"is -0\.1; Input should be greater than or equal to 0"),
        (".inf", "is inf; Input should be a finite number"),
        ("much", "is 'much'; Input should be a valid number"),
    ],
)
def test_a_margin_that_is_no_distance_is_refused(tables: Path, spec: TableSpec, margin: str, problem: str) -> None:
    path = tables / f"{spec.name}.yaml"
    path.write_text(path.read_text().replace("direction: max}\n", f"direction: max, margin: {margin}}}\n"))
    with pytest.raises(ConfigError, match=rf"scales\.large\.learning_rates\.mqar\.margin: {problem}"):
        TableSpec.load("small", "large", folder=tables)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ("margin: 0.1", ": margin says what is a near tie and tie_seeds decide it; give both or neither"),
        ("tie_seeds: [8]", ": margin says what is a near tie and tie_seeds decide it; give both or neither"),
        ("margin: 0.1, tie_seeds: [0, 8]", r"\.tie_seeds: \[0\] are among its seeds already, \[0, 1\]"),
    ],
)
def test_near_ties_without_effect_are_refused(tables: Path, spec: TableSpec, settings: str, problem: str) -> None:
    path = tables / f"{spec.name}.yaml"
    path.write_text(path.read_text().replace("direction: max}\n", f"direction: max, {settings}}}\n"))
    with pytest.raises(ConfigError, match=rf"scales\.large\.learning_rates\.mqar{problem}"):
        TableSpec.load("small", "large", folder=tables)


def test_only_mqar_of_recall_at_gpu_scale_has_a_margin() -> None:
    margins = {
        (name, scale, study): rule.margin
        for name in ("ablation", "backbones", "clip", "recall", "stability")
        for scale in ("smoke", "cpu", "gpu", "paper")
        for study, rule in TableSpec.load(name, scale).rules.items()
    }
    assert len(margins) > 1
    assert {key: margin for key, margin in margins.items() if margin} == {("recall", "gpu", "mqar"): 0.0125}


def test_nothing_is_chosen_while_runs_are_missing(spec: TableSpec) -> None:
    choices = choose_learning_rates(spec, {})
    assert chosen(choices) == {None}
    assert not choices[0].all_diverged


def test_where_every_candidate_diverged_the_smallest_stands(spec: TableSpec, tmp_path: Path) -> None:
    choices = choose_learning_rates(spec, scored(spec, tmp_path, dict.fromkeys((1e-3, 1e-2, 1e-1), (-1.0, -1.0))))
    assert chosen(choices) == {1e-3}
    assert choices[0].all_diverged
    assert not choices[0].at_edge
    said = notes(collect(spec, {}, choices=choices))
    assert any(
        note.startswith("MQAR: every rate that was tried diverged, and the smallest stands: RLA full (0.001)")
        for note in said
    )
    assert to_cells(collect(spec, {}, choices=choices))["learning_rates"][0]["all_diverged"]


def test_nothing_is_chosen_where_candidates_failed_otherwise(spec: TableSpec, tmp_path: Path) -> None:
    folders = scored(spec, tmp_path, dict.fromkeys((1e-3, 1e-2, 1e-1), (-1.0, -1.0)))
    for folder in folders.values():
        (folder / "status.json").write_text(json.dumps({"state": "failed", "error": "OutOfMemoryError: no memory"}))
    choices = choose_learning_rates(spec, folders)
    assert chosen(choices) == {None}
    assert not choices[0].all_diverged


def test_the_table_says_what_was_chosen_and_from_what(spec: TableSpec, tmp_path: Path) -> None:
    choices = choose_learning_rates(
        spec, scored(spec, tmp_path, {1e-3: (0.5, 0.6), 1e-2: (0.4, 0.3), 1e-1: (0.2, -1.0)})
    )
    with_rates = spec.with_learning_rates({(c.row, c.study): c.lr or 0.0 for c in choices})
    table = collect(with_rates, {}, choices=choices)
    assert table.cells["rla/full", "rate"].text == "0.001"
    said = notes(table)
    assert (
        "MQAR: each row has of 0.001, 0.01, 0.1 the one with the highest mean valid/accuracy over seeds 0, 1 after 25% "
        "of the steps, with a schedule of that length; the test split has no part in it." in said
    )
    assert any(
        note.startswith("MQAR: chosen at the end of what was tried") and "RLA full (0.001)" in note for note in said
    )
    first = to_cells(table)["learning_rates"][0]
    assert (first["group"], first["row"], first["lr"], first["at_edge"]) == ("rla", "full", 0.001, True)
    assert [candidate["score"] for candidate in first["candidates"]] == [0.55, 0.35, None]
    assert [run["state"] for run in first["candidates"][2]["runs"]] == ["done", "failed"]


def test_a_run_that_is_a_candidate_too_is_counted_once(tables: Path, spec: TableSpec, tmp_path: Path) -> None:
    path = tables / f"{spec.name}.yaml"
    path.write_text(path.read_text().replace("share: 0.25", "share: 1.0"))
    spec = TableSpec.load("small", "large", seeds=[0, 1], folder=tables)
    tried = scored(spec, tmp_path, {1e-3: (0.5, 0.6), 1e-2: (0.4, 0.3), 1e-1: (0.2, 0.2)})
    for folder in tried.values():
        content = json.loads((folder / "result.json").read_text())
        content["metrics"] |= {"test/accuracy": 0.5, "state_bytes": 1.0}
        content |= {"timing": {"tokens_per_s": 1.0}, "provenance": {"sources": "a" * 64, "device": "a processor"}}
        (folder / "result.json").write_text(json.dumps(content))
        (folder / "environment.json").write_text(json.dumps({"command": ["table.py"], "started": "2026-01-01"}))
    choices = choose_learning_rates(spec, tried)
    spec = spec.with_learning_rates({(c.row, c.study): c.lr or 0.0 for c in choices})
    own = {run: folder for run in spec.runs() for r, folder in tried.items() if is_run_of(r, run)}
    table = collect(spec, own, choices=choices)
    assert table.count("done") == 4 * 2
    assert [len(runs) for origin in table.origins for runs in origin.runs.values()] == [24, 24]
    write_table(table, tmp_path / "results")
    (environment,) = json.loads((tmp_path / "results" / "environment.json").read_text())
    assert environment["runs"] == 24
    assert any(
        "seeds 0, 1 of whole runs, the table's own among them; the test split has no part in it." in note
        for note in notes(table)
    )


def is_run_of(candidate: RunRequest, run: RunRequest) -> bool:
    """Whether a candidate of a whole run's length is this run of the table."""
    lr = run.setting("optim.lr")
    return lr is not None and (candidate.row, candidate.seed, candidate.tried_lr) == (run.row, run.seed, float(lr))


def test_a_metric_that_runs_lack_is_refused(spec: TableSpec, tmp_path: Path) -> None:
    folders = scored(spec, tmp_path, dict.fromkeys((1e-3, 1e-2, 1e-1), (0.5, 0.5)))
    first = next(iter(folders.values()))
    content = {"metrics": {"valid/acuracy": 0.5}, "timing": {}, "provenance": {}}
    (first / "result.json").write_text(json.dumps(content))
    with pytest.raises(ConfigError, match="key valid/accuracy is unknown; known: valid/acuracy"):
        choose_learning_rates(spec, folders)


def test_a_rule_that_looks_at_test_data_is_refused(tables: Path, spec: TableSpec) -> None:
    path = tables / f"{spec.name}.yaml"
    path.write_text(
        path.read_text().replace("metric: valid/accuracy, direction: max}", "metric: test/x, direction: max}")
    )
    with pytest.raises(ConfigError, match=r"learning_rates.mqar.metric: is 'test/x'"):
        TableSpec.load("small", "large", folder=tables)
