"""Models of conf/ in transformers' form."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from transformers import AutoModelForCausalLM

from rla_exp.config import compose
from rla_exp.config.schema import ModelName
from rla_exp.hf import RlaExpForCausalLM
from rla_exp.hf.export import export_model
from rla_exp.models import LanguageModel, build_model

NAMES = get_args(ModelName)
VOCAB_SIZE = 29


@pytest.fixture
def make_model() -> Callable[..., LanguageModel]:
    """A tiny model with an MLP over 29 tokens; its matrices are large, so that every part moves the logits."""

    def make(name: str, **changes: Any) -> LanguageModel:
        config = compose([f"model={name}", "size=tiny"]).config.model
        large = {"init_std": 0.3, "embedding_std": None, "tie_embeddings": True, "mlp_dim": 48}
        return build_model(replace(config, **{**large, **changes}), VOCAB_SIZE, seed=0).eval()

    return make


@pytest.fixture
def exported(make_model: Callable[..., LanguageModel], tmp_path: Path) -> Callable[..., tuple[Any, Any]]:
    """(a model of ours, the same as transformers loads it from an export)."""

    def make(name: str, **changes: Any) -> tuple[LanguageModel, RlaExpForCausalLM]:
        model = make_model(name, **changes)
        folder = tmp_path / "exported"
        export_model(model, None, folder, train_length=64, provenance={})
        return model, AutoModelForCausalLM.from_pretrained(folder)

    return make


@pytest.fixture
def tokens() -> Callable[..., torch.Tensor]:
    """Random tokens of a shape."""

    def draw(*shape: int, seed: int = 0) -> torch.Tensor:
        return torch.randint(VOCAB_SIZE, shape, generator=torch.Generator().manual_seed(seed))

    return draw


@pytest.fixture
def decode_greedily() -> Callable[..., torch.Tensor]:
    """(model of ours, tokens [B, T], number): the tokens that follow, [B, number], by our own step."""

    @torch.no_grad()
    def decode(model: LanguageModel, tokens: torch.Tensor, number: int) -> torch.Tensor:
        cache = model.new_cache(len(tokens))
        logits = model(tokens, cache=cache)[:, -1]
        chosen = []
        for _ in range(number):
            chosen.append(logits.argmax(-1))
            logits = model(chosen[-1][:, None], cache=cache)[:, -1]
        return torch.stack(chosen, dim=1)

    return decode
