"""The tables of conf/table/ beside the ablation: every run composes, and each shows what the paper's item shows."""

from __future__ import annotations

import json

import pytest

from rla_exp.config import Composed, compose
from rla_exp.config.schema import TextConfig
from rla_exp.errors import ConfigError
from rla_exp.report import RunRequest, TableSpec, table_names
from rla_exp.report.columns import MetricColumn, ScoreColumn, TraceColumn
from rla_exp.report.kernel_spec import CpuTimes, StoredTimes, is_kernel_table, load_kernel_spec
from rla_exp.report.learning_rate import selection_runs
from rla_exp.report.local_text import LocalText

TABLES = ("backbones", "clip", "recall", "stability")
SCALES = ("smoke", "cpu", "gpu", "paper")
BASELINES = {"rla": "linear_attention", "rdn": "gated_delta_net"}
"""What a model is without its residual."""
SHARED = {
    **{("recall", scale, "text"): "backbones" for scale in SCALES},
    ("recall", "gpu", "mqar"): "ablation",
    ("clip", "gpu", "text"): "backbones",
}
"""The folder of the runs of a table, scale and study, where it is another table's."""


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
        model = run.config.model
        called = BASELINES.get(model.name, model.name) if model.residual == "off" else model.name
        assert called == (row.removesuffix("_value") if name in ("backbones", "recall") else group)
        assert run.config.experiment == SHARED.get((name, scale, request.study), name)
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


def resolved(spec: TableSpec, row: str, studies: tuple[str, ...]) -> dict[str, str]:
    """What a row's runs and those of its learning rate are, by the rest of their labels."""
    spec = spec.with_learning_rates({(r.id, study): 1e-3 for r in spec.rows for study in spec.studies})
    requests = [r for r in [*spec.runs(), *selection_runs(spec)] if r.row == row and r.study in studies]
    return {r.label.removeprefix(row): json.dumps(c.resolved, sort_keys=True) for r, c in composed(requests).items()}


@pytest.mark.parametrize("model", ["rla", "rdn"])
def test_tables_share_runs_at_gpu_scale(model: str) -> None:
    ablation, backbones, recall, clip = (
        TableSpec.load(name, "gpu") for name in ("ablation", "backbones", "recall", "clip")
    )
    text = ("text", "text_small")
    for row, models_row in (("full", model), ("no_residual", BASELINES[model])):
        ours = resolved(ablation, f"{model}/{row}", text)
        # two studies, three seeds and three candidates
        assert len(ours) == 2 * (3 + 3)
        assert ours == resolved(backbones, f"models/{models_row}", text)
    for row, recall_row in (("full", model), ("no_residual", BASELINES[model]), ("value_state", f"{model}_value")):
        ours = resolved(ablation, f"{model}/{row}", ("mqar",))
        theirs = resolved(recall, f"large/{recall_row}", ("mqar",))
        assert len(ours) == len(theirs) == 3 + 3
        # each has a rule of its own for the learning rate, and so candidates of its own
        whole = {label for label in ours if "lr" not in label}
        assert len(whole) == 3
        assert {label: ours[label] for label in whole} == {label: theirs[label] for label in whole}
    for row, clip_row in (("full", "c1"), ("no_clip", "none")):
        small = resolved(ablation, f"{model}/{row}", ("text_small",)).values()
        ours = resolved(clip, f"{model}/{clip_row}", ("text",))
        assert len(ours) == 3 + 3
        assert set(ours.values()) == set(small)


def test_learning_rates_of_recall_at_gpu_scale_are_chosen_from_runs_that_the_table_can_show() -> None:
    spec = TableSpec.load("recall", "gpu").with_studies(["mqar"])
    whole: dict[str, set[str]] = {}
    for lr in spec.rules["mqar"].candidates:
        rated = spec.with_learning_rates({(row.id, "mqar"): lr for row in spec.rows})
        of_seed_0 = [run for run in rated.runs() if run.seed == 0]
        for request, run in composed(of_seed_0).items():
            whole.setdefault(request.row, set()).add(json.dumps(run.resolved, sort_keys=True))
    tried: dict[str, set[str]] = {}
    for request, run in composed(selection_runs(spec)).items():
        tried.setdefault(request.row, set()).add(json.dumps(run.resolved, sort_keys=True))
    assert tried == whole
    # one transformer does for the groups of all sizes
    assert len(set().union(*tried.values())) == 3 * (1 + 3 * 7)


def test_two_states_of_one_size_are_as_large_as_one_of_the_next() -> None:
    spec = TableSpec.load("recall", "gpu")
    sizes = {}
    for request, run in composed([run for run in spec.runs() if run.study == "mqar" and run.seed == 0]).items():
        model = run.config.model
        states = 1 if model.residual == "off" else 2
        sizes[request.row] = states * model.num_heads * model.head_dim_k * model.head_dim_v
    for smaller, larger in (("small", "medium"), ("medium", "large")):
        assert sizes[f"{smaller}/rla"] == sizes[f"{smaller}/rla_value"] == sizes[f"{larger}/linear_attention"]
        assert sizes[f"{smaller}/rdn"] == sizes[f"{smaller}/rdn_value"] == sizes[f"{larger}/gated_delta_net"]


@pytest.mark.parametrize("scale", ["cpu", "gpu"])
@pytest.mark.parametrize("name", TABLES)
def test_local_text_takes_the_place_of_every_corpus(name: str, scale: str) -> None:
    text = LocalText(("shelf/train it's.jsonl.xz", "b/*.txt"), ("held_out/*.txt",))
    spec = TableSpec.load(name, scale, text=text)
    plain = TableSpec.load(name, scale)
    assert "local text (train it's.jsonl.xz, *.txt, tested on *.txt)" in spec.caption
    assert "{corpus}" not in spec.caption + plain.caption
    assert [run.label for run in spec.runs()] == [run.label for run in plain.runs()]
    for request, run in composed([run for run in spec.runs() if run.seed == spec.seeds[0]]).items():
        data = run.config.data
        if request.study.startswith("mqar"):
            assert data.kind == "mqar"
        else:
            assert isinstance(data, TextConfig)
            assert (data.source, data.paths) == ("files", ["shelf/train it's.jsonl.xz", "b/*.txt"])
            assert data.test_paths == ["held_out/*.txt"]


def test_a_caption_without_a_place_for_the_corpus_takes_no_other_one() -> None:
    with pytest.raises(ConfigError, match="no place for another corpus"):
        TableSpec.load("backbones", "paper", text=LocalText(("a.txt",)))


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


@pytest.mark.parametrize(
    ("name", "without", "suites"),
    [("backbones", {"smoke"}, {"language": 100}), ("recall", {"niah"}, {"recall": 20, "recall_in_context": 20})],
)
def test_local_files_bring_their_suites_to_the_cpu(name: str, without: set[str], suites: dict[str, int]) -> None:
    assert set(TableSpec.load(name, "cpu").score_tasks("text")) == without
    spec = TableSpec.load(name, "cpu", with_data=True)
    assert spec.score_tasks("text").keys() == without | suites.keys()
    # a few documents each, for folders may have thousands
    assert spec.evaluation_limits.items() >= suites.items()
    gpu = TableSpec.load(name, "gpu").score_tasks("text")
    assert all(spec.score_tasks("text")[suite] == gpu[suite] for suite in suites)
    # what is not offered is no loss that has to be told
    added = [key for key in spec.columns if key not in TableSpec.load(name, "cpu").columns]
    assert spec.without_columns(added, "Not evaluated") == TableSpec.load(name, "cpu")


def test_learning_rates_are_chosen_on_validation_data_alone() -> None:
    for name in TABLES:
        for scale in SCALES:
            for rule in TableSpec.load(name, scale).rules.values():
                assert rule.metric.startswith("valid/")


def test_the_kernels_table_times_a_cpu_or_reads_benchmarks() -> None:
    kinds = {scale: type(load_kernel_spec("kernels", scale).at_scale.times) for scale in SCALES}
    assert kinds == {"smoke": CpuTimes, "cpu": CpuTimes, "gpu": StoredTimes, "paper": StoredTimes}
