"""Untrained models over bytes; large matrices, so that every token moves the logits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from rla_exp.config.schema import ModelConfig
from rla_exp.models import LanguageModel, build_model

CONF = Path(__file__).parents[2] / "conf"


@pytest.fixture
def make_model() -> Callable[..., LanguageModel]:
    """(name, seed=0, vocab_size=257, **changes): a tiny model on the default device."""

    def make(name: str, *, seed: int = 0, vocab_size: int = 257, **changes: Any) -> LanguageModel:
        files = [CONF / "model" / f"{name}.yaml", CONF / "size" / "tiny.yaml"]
        for_model = CONF / "size" / "for_model" / f"tiny_{name}.yaml"
        if for_model.exists():
            files.append(for_model)
        composed = OmegaConf.to_container(OmegaConf.merge(*map(OmegaConf.load, files)))
        assert isinstance(composed, dict)
        large = {"init_std": 0.3, "embedding_std": None, "tie_embeddings": True, "num_layers": 2}
        config = ModelConfig(**{**composed, **large, **changes})  # type: ignore[arg-type]
        return build_model(config, vocab_size, seed=seed)

    return make


@pytest.fixture
def greedy() -> Callable[..., list[int]]:
    """(model, prompt, count): the likeliest tokens, each by a pass over everything before it."""

    @torch.no_grad()
    def tokens(model: LanguageModel, prompt: list[int], count: int) -> list[int]:
        row = list(prompt)
        device = model.embedding.weight.device
        for _ in range(count):
            row.append(int(model(torch.tensor([row], device=device))[0, -1].argmax()))
        return row[len(prompt) :]

    return tokens
