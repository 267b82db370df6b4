"""conf/table/ablation.yaml holds what it must, and every run that it asks for composes."""

from __future__ import annotations

import pytest

from rla_exp.config import compose
from rla_exp.config.schema import MqarConfig
from rla_exp.report import TableSpec
from rla_exp.report.columns import LearnedColumn, MetricColumn

SCALES = ("smoke", "cpu", "gpu", "paper")
ROWS = (
    "full",
    "no_residual",
    "value_state",
    "tied_gamma",
    "no_gamma",
    "no_norm",
    "no_clip",
    "sum_output",
    "decayed_prediction",
    "wide_state",
)


@pytest.mark.parametrize("scale", SCALES)
def test_every_run_composes_to_its_row(scale: str) -> None:
    spec = TableSpec.load("ablation", scale)
    runs = [run for run in spec.runs() if run.seed == spec.seeds[0]]
    # rla differs by its model alone: the smallest scale is enough for it
    for run in (run for run in runs if scale == "smoke" or run.row.startswith("rdn/")):
        config = compose(run.overrides).config
        ablation = run.row.partition("/")[2].replace("wide_state", "no_residual")
        assert (config.model.name, config.ablation, config.seed) == (run.row.partition("/")[0], ablation, run.seed)
        # its text at gpu scale is that of the backbones, whose runs it shows
        assert config.experiment == ("backbones" if scale == "gpu" and run.study != "mqar" else "ablation")
        assert isinstance(config.data, MqarConfig) == (run.study == "mqar")


@pytest.mark.parametrize("scale", SCALES)
def test_columns_name_pairs_that_the_data_tests(scale: str) -> None:
    spec = TableSpec.load("ablation", scale)
    data = compose(next(run for run in spec.runs() if run.study == "mqar").overrides).config.data
    assert isinstance(data, MqarConfig)
    named = {
        column.metric
        for column in spec.columns.values()
        if isinstance(column, MetricColumn | LearnedColumn) and column.study == "mqar"
    }
    assert len(named) == 3
    assert named <= {f"test/accuracy@{segment.num_pairs}" for segment in data.test}
    # best cells are chosen by the same pairs
    assert {segment.num_pairs for segment in data.test} == {segment.num_pairs for segment in data.valid}


def test_the_cpu_scale_has_the_rows_seeds_and_columns_that_it_promises() -> None:
    spec = TableSpec.load("ablation", "cpu")
    assert len(spec.seeds) >= 3
    ran = {run.row for run in spec.runs()}
    promised = ("full", "no_residual", "tied_gamma", "no_norm", "no_clip", "sum_output", "value_state")
    assert {f"{group}/{row}" for group in ("rla", "rdn") for row in promised} <= ran
    kinds = {column.kind for column in spec.columns.values()}
    assert kinds == {"metric", "constant", "timing", "learned", "failed"}
    assert set(spec.studies) == {"mqar", "text"}
    assert spec.warning is None


def test_the_larger_scales_run_every_row() -> None:
    for scale in ("gpu", "paper"):
        spec = TableSpec.load("ablation", scale)
        assert [row.id for row in spec.rows] == [f"{group}/{row}" for group in ("rla", "rdn") for row in ROWS]
        assert len(spec.seeds) >= 3


def test_a_wide_state_is_as_large_as_two() -> None:
    spec = TableSpec.load("ablation", "gpu")
    dims = {}
    for run in spec.runs():
        model = compose(run.overrides).config.model
        states = 1 if model.residual == "off" else 2
        dims[run.row, run.study] = states * model.num_heads * model.head_dim_k * model.head_dim_v * model.num_layers
    for study in ("mqar", "text_small"):
        for group in ("rla", "rdn"):
            baseline = dims[f"{group}/no_residual", study]
            twice = {dims[f"{group}/{row}", study] for row in ("wide_state", "full", "value_state")}
            assert twice == {2 * baseline}


def test_the_smoke_scale_is_small_and_says_that_it_means_nothing() -> None:
    spec = TableSpec.load("ablation", "smoke")
    assert spec.warning is not None
    assert "mean nothing" in spec.warning
    assert len(spec.seeds) == 2
    assert len(spec.runs()) <= 20
    assert max(compose(run.overrides).config.trainer.max_steps for run in spec.runs()) <= 10
