"""Small runs made without `conf/`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from rla_exp.config import Composed
from rla_exp.config.schema import (
    LoggerConfig,
    ModelConfig,
    MqarConfig,
    MqarSegment,
    OptimConfig,
    PathsConfig,
    RunConfig,
    TrainerConfig,
)

MakeRun = Callable[..., Composed]


def segment(num_examples: int, num_pairs: int = 2) -> MqarSegment:
    return MqarSegment(length=16, num_pairs=num_pairs, num_examples=num_examples)


def tiny_config(runs: Path) -> RunConfig:
    return RunConfig(
        model=ModelConfig(
            name="rdn",
            mixer="linear",
            d_model=16,
            num_layers=2,
            mlp_dim=None,
            num_heads=2,
            head_dim_k=8,
            head_dim_v=8,
            rule="delta",
            decay="learned",
            write="beta",
            residual="fit",
            gamma="dedicated",
        ),
        data=MqarConfig(
            kind="mqar",
            name="mqar",
            vocab_size=32,
            batch_size=8,
            eval_batch_size=16,
            order="mixed",
            train=[segment(40), segment(40, num_pairs=4)],
            valid=[segment(16), segment(16, num_pairs=4)],
            test=[segment(16), segment(20, num_pairs=4)],
        ),
        optim=OptimConfig(lr=1e-2, warmup_steps=2),
        trainer=TrainerConfig(max_steps=8, accelerator="cpu", log_every=2, progress=False),
        logger=LoggerConfig(),
        paths=PathsConfig(runs=str(runs), cache=str(runs / "cache")),
    )


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """make_run(max_steps=4, seed=1, ...) is a tiny run; keys of trainer and of other sections by name."""

    def make(*, data: dict[str, Any] | None = None, model: dict[str, Any] | None = None, **changes: Any) -> Composed:
        config = tiny_config(tmp_path / "runs")
        top = {key: changes.pop(key) for key in ("seed", "retry_failed", "logger", "optim") if key in changes}
        config = replace(
            config,
            model=replace(config.model, **(model or {})),
            data=replace(config.data, **(data or {})),
            trainer=replace(config.trainer, **changes),
            **top,
        )
        return Composed(config, asdict(config), [])

    return make
