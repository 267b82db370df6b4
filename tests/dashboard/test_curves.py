"""Means, spreads and counts over seeds against numbers worked out by hand, and what thinning keeps."""

from __future__ import annotations

import json

import numpy as np
import pytest

from rla_exp.dashboard.curves import Band, band, kept_points, metric_names
from rla_exp.dashboard.payloads import script

ROWS = {
    "0": [{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.0}, {"step": 3, "loss": 0.5}],
    "1": [{"step": 1, "loss": 4.0}, {"step": 2, "loss": None}],
    "2": [{"step": 1, "loss": 6.0}, {"step": 2, "loss": 3.0, "lr": 0.1}],
}


def test_mean_spread_and_count_of_each_step() -> None:
    curve = band(ROWS, "loss")
    assert curve is not None
    assert curve.steps.tolist() == [1, 2, 3]
    assert curve.count.tolist() == [3, 2, 1]
    assert curve.mean.tolist() == [4.0, 2.0, 0.5]
    # of 2, 4, 6: sqrt(8 / 2); of 1 and 3: sqrt(2)
    np.testing.assert_allclose(curve.sd, [2.0, np.sqrt(2), np.nan])


def test_seeds_without_the_metric_are_left_out() -> None:
    curve = band(ROWS, "lr")
    assert curve is not None
    assert {seed: values.tolist() for seed, values in curve.values.items()} == {"2": [0.1]}
    assert band(ROWS, "accuracy") is None
    assert metric_names(ROWS) == ["loss", "lr"]


def test_a_step_logged_twice_counts_once() -> None:
    curve = band({"0": [{"step": 1, "loss": 9.0}, {"step": 1, "loss": 1.0}]}, "loss")
    assert curve is not None
    assert curve.mean.tolist() == [1.0]


@pytest.mark.parametrize("length", [1, 10, 11, 1000, 12345])
def test_thinning_keeps_ends_and_extremes(length: int) -> None:
    values = np.random.default_rng(0).normal(size=length)
    kept = kept_points(values, 10)
    assert len(kept) == len(set(kept.tolist())) <= max(10, min(length, 10))
    assert kept[0] == 0
    assert kept[-1] == length - 1
    assert kept.tolist() == sorted(kept.tolist())
    assert values[kept].min() == values.min()
    assert values[kept].max() == values.max()


def test_a_spike_outlives_thinning() -> None:
    values = np.zeros(5000)
    values[3210] = 7.0
    curve = Band(np.arange(5000), {"0": values}).thinned(100)
    assert len(curve.steps) <= 100
    assert 3210 in curve.steps
    assert curve.mean.max() == 7.0


def test_a_script_cannot_be_left_from_inside_its_data() -> None:
    text = script("rla.receive", "curves", {"name": "</script><b>\u2028"})
    assert "</script>" not in text
    assert "\u2028" not in text
    arguments = json.loads(f"[{text.removeprefix('rla.receive(').removesuffix(');' + chr(10))}]")
    assert arguments == ["curves", {"name": "</script><b>\u2028"}]


def test_data_that_json_does_not_know_is_refused() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        script("rla.receive", float("nan"))
