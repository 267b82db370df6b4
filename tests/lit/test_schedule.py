"""Warm-up and cosine."""

from __future__ import annotations

from itertools import pairwise

import pytest

from rla_exp.config.schema import OptimConfig
from rla_exp.lit.schedule import lr_factor


def test_warmup_then_cosine_to_the_floor() -> None:
    config = OptimConfig(lr=1.0, warmup_steps=4, min_lr_ratio=0.2)
    factors = [lr_factor(step, config, 12) for step in range(13)]
    assert factors[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    # half way down, and at the end
    assert factors[8] == pytest.approx(0.6)
    assert factors[12] == pytest.approx(0.2)
    assert all(before > after for before, after in pairwise(factors[4:]))


def test_no_warmup() -> None:
    assert lr_factor(0, OptimConfig(lr=1.0), 10) == 1.0


def test_warmup_only() -> None:
    config = OptimConfig(lr=1.0, warmup_steps=2)
    assert [lr_factor(step, config, 2) for step in range(3)] == [0.5, 1.0, 1.0]
