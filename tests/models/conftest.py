"""Models made from the files of conf/."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from rla_exp.config.schema import ModelConfig
from rla_exp.models import LanguageModel, build_model

CONF = Path(__file__).parents[2] / "conf"


@pytest.fixture
def model_config() -> Callable[..., ModelConfig]:
    """(name, size="tiny", ablation=None, **changes): what conf/ composes to, read file by file."""

    def make(name: str, size: str = "tiny", ablation: str | None = None, **changes: Any) -> ModelConfig:
        files = [CONF / "model" / f"{name}.yaml", CONF / "size" / f"{size}.yaml"]
        for_model = CONF / "size" / "for_model" / f"{size}_{name}.yaml"
        if for_model.exists():
            files.append(for_model)
        parts = [OmegaConf.load(file) for file in files]
        if ablation is not None:
            delta = OmegaConf.load(CONF / "ablation" / f"{ablation}.yaml")
            # full has no delta
            parts.append(OmegaConf.select(delta, "model", default=OmegaConf.create()))
        return ModelConfig(**{**OmegaConf.to_container(OmegaConf.merge(*parts)), **changes})

    return make


@pytest.fixture
def make_model(model_config: Callable[..., ModelConfig]) -> Callable[..., LanguageModel]:
    """A tiny model with an MLP over 29 tokens; its matrices are large, so that every part moves the logits."""

    def make(name: str, *, seed: int = 0, **changes: Any) -> LanguageModel:
        large = {"init_std": 0.3, "embedding_std": None, "tie_embeddings": True, "mlp_dim": 48}
        return build_model(model_config(name, **{**large, **changes}), 29, seed=seed)

    return make
