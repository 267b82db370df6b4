"""The tables of conf/table/ beside the ablation: every run composes, and each shows what the paper's item shows."""

from __future__ import annotations

import json

import pytest

from rla_exp.config import Composed, compose
from rla_exp.report import RunRequest, TableSpec, table_names
from rla_exp.report.columns import MetricColumn, ScoreColumn, TraceColumn
from rla_exp.report.kernel_spec import CpuTimes, StoredTimes, is_kernel_table, load_kernel_spec
from rla_exp.report.learning_rate import selection_runs

TABLES = ("backbones", "clip", "recall", "stability")
SCALES = ("smoke", "cpu", "gpu", "paper")


def composed(requests: list[RunRequest]) -> dict[RunRequest, Composed]:
    return {request: compose(request.overrides) for request in requests}


def test_every_item_of_the_paper_has_a_table() -> None:
    assert table_names() == ["ablation", "backbones", "clip", "kernels", "recall", "stability"]
    assert [name for name in table_names() if is_kernel_table(name)] == ["kernels"]


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", TABLES)
def test_every_run_composes_to_its_row(name: str, scale: str) -> None:
    spec = TableSpec.load(name, scale)
    first = [run for run in spec.runs() if run.seed == spec.seeds[0]]
    first += [run for run in selection_runs(spec) if run.tried_lr == spec.rules[run.study].candidates[0]]
    for request, run in composed(first).items():
        group, _, row = request.row.partition("/")
        # rows of backbones and recall are models, groups of the others
        assert run.config.model.name == (row if name in ("backbones", "recall") else group)
        shared = name == "recall" and request.study == "text"
        assert run.config.experiment == ("backbones" if shared else name)
        has_traces = any(isinstance(c, TraceColumn) and c.study == request.study for c in spec.columns.values())
        assert not has_traces or run.config.trainer.diagnostics_every is not None


@pytest.mark.parametrize("scale", SCALES)
def test_recall_trains_no_text_model_that_backbones_has(scale: str) -> None:
    recall, backbones = (TableSpec.load(name, scale) for name in ("recall", "backbones"))

    def configs(spec: TableSpec) -> dict[str, str]:
        requests = [r for r in [*spec.runs(), *selection_runs(spec)] if r.study == "text" and r.row.endswith("/rdn")]
        return {r.label.split("/")[1]: json.dumps(c.resolved, sort_keys=True) for r, c in composed(requests).items()}

    ours, theirs = configs(recall), configs(backbones)
    assert ours
    if scale == "smoke":
        # it has one learning rate, not a choice
        ours = {label: theirs[label] for label in ours}
    assert {label: theirs[label] for label in ours} == ours


@pytest.mark.parametrize("scale", ["smoke", "cpu"])
def test_pairs_that_recall_shows_are_tested(scale: str) -> None:
    spec = TableSpec.load("recall", scale)
    data = compose(next(run for run in spec.runs() if run.study == "mqar").overrides).config.data
    shown = {c.metric for c in spec.columns.values() if isinstance(c, MetricColumn) and c.study == "mqar"}
    assert shown == {f"test/accuracy@{segment.num_pairs}" for segment in data.test}  # type: ignore[union-attr]


def test_the_stability_table_takes_away_normalization_and_clipping() -> None:
    for scale in SCALES:
        spec = TableSpec.load("stability", scale)
        runs = composed([run for run in spec.runs() if run.seed == spec.seeds[0] and run.row.startswith("rla/")])
        found = {request.row: (run.config.model.qk_norm, run.config.model.clip) for request, run in runs.items()}
        assert found == {
            "rla/full": ("l2", 1.0),
            "rla/no_clip": ("l2", None),
            "rla/no_norm": ("none", 1.0),
            "rla/neither": ("none", None),
        }
        assert spec.figure == "curves"
        assert {column.kind for column in spec.figure_columns.values()} == {"trace"}


def test_the_clip_table_sweeps_the_threshold() -> None:
    spec = TableSpec.load("clip", "cpu")
    runs = composed([run for run in spec.runs() if (run.seed, run.study) == (0, "text") and run.row.startswith("rdn/")])
    assert [run.config.model.clip for run in runs.values()] == [0.1, 0.3, 1.0, 3.0, None]
    assert spec.rows[0].reference == "c1"


def test_residual_models_are_compared_with_their_own_baselines() -> None:
    references = {row.key: row.reference for row in TableSpec.load("backbones", "cpu").rows}
    assert (references["rla"], references["rdn"]) == ("linear_attention", "gated_delta_net")


def test_scores_of_the_language_suites_are_for_models_that_can_have_them() -> None:
    for scale, suites in {"cpu": {"smoke"}, "gpu": {"language"}, "paper": {"language"}}.items():
        columns = TableSpec.load("backbones", scale).columns.values()
        assert {column.suite for column in columns if isinstance(column, ScoreColumn)} == suites


def test_learning_rates_are_chosen_on_validation_data_alone() -> None:
    for name in TABLES:
        for scale in SCALES:
            for rule in TableSpec.load(name, scale).rules.values():
                assert rule.metric.startswith("valid/")


def test_the_kernels_table_times_a_cpu_or_reads_benchmarks() -> None:
    kinds = {scale: type(load_kernel_spec("kernels", scale).at_scale.times) for scale in SCALES}
    assert kinds == {"smoke": CpuTimes, "cpu": CpuTimes, "gpu": StoredTimes, "paper": StoredTimes}
