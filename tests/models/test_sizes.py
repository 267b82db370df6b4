"""The sizes of conf/size: parameters, decoding states, and what Hydra makes of the files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from rla_exp.config.schema import ModelConfig, ModelName
from rla_exp.models import LanguageModel, build_model

CONF = Path(__file__).parents[2] / "conf"
SIZES = ("tiny", "small", "base", "340m", "1p5b")


@pytest.fixture
def on_meta(model_config: Callable[..., ModelConfig]) -> Callable[[str, str, int], LanguageModel]:
    def make(name: str, size: str, vocab_size: int) -> LanguageModel:
        with torch.device("meta"):
            return build_model(model_config(name, size), vocab_size)

    return make


def _count(model: LanguageModel) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("name", "billions"), [("linear_attention", 1.545), ("rla", 1.546), ("rdn", 1.546), ("transformer", 1.510)]
)
def test_1p5b_has_the_papers_parameters(on_meta, name, billions):
    # the size brings the vocabulary, though data may have fewer tokens
    model = on_meta(name, "1p5b", 50_257)
    assert _count(model) / 1e9 == pytest.approx(billions, abs=0.01)
    assert next(model.parameters()).is_meta


def test_a_residual_costs_one_projection_a_layer(on_meta):
    """gamma's: 16 layers of 2048 x 16."""
    assert _count(on_meta("rla", "1p5b", 98_304)) - _count(on_meta("linear_attention", "1p5b", 98_304)) == 524_288
    assert _count(on_meta("rdn", "1p5b", 98_304)) - _count(on_meta("gated_delta_net", "1p5b", 98_304)) == 524_288


@pytest.mark.parametrize(("size", "millions"), [("small", 25), ("base", 125), ("340m", 340)])
@pytest.mark.parametrize("name", get_args(ModelName))
def test_sizes_hold_for_every_model(on_meta, name, size, millions):
    assert _count(on_meta(name, size, 32_768)) / 1e6 == pytest.approx(millions, rel=0.01)


@pytest.mark.parametrize(
    ("name", "size", "expected"),
    [
        # layers x 4 bytes x (states x H x K x V + 3 x (2 H K + H V))
        ("linear_attention", "1p5b", 16 * 4 * (16 * 128 * 128 + 3 * 6144)),
        ("delta_net", "1p5b", 17_956_864),
        ("gated_delta_net", "1p5b", 17_956_864),
        ("mamba2", "1p5b", 17_956_864),
        ("retnet", "1p5b", 16_777_216),  # no convolution
        ("rla", "1p5b", 16 * 4 * (2 * 16 * 128 * 128 + 3 * 6144)),
        ("rdn", "1p5b", 34_734_080),
        # layers x 4 bytes x keys and values x tokens x groups x D
        ("transformer", "1p5b", 16 * 4 * 2 * 2048 * 4 * 128),
        ("linear_attention", "tiny", 20_992),
        ("rdn", "tiny", 37_376),
        ("transformer", "tiny", 1_048_576),
    ],
)
def test_state_bytes(on_meta, name, size, expected):
    model = on_meta(name, size, 98_304)
    assert model.state_bytes(2048) == expected
    assert model.state_bytes(4096) == (2 * expected if name == "transformer" else expected)


@pytest.mark.parametrize("name", get_args(ModelName))
def test_state_bytes_are_those_of_the_cache(make_model, name):
    model = make_model(name)
    cache = model.new_cache(3)
    with torch.no_grad():
        for length in (5, 1, 1, 9):
            model(torch.zeros(3, length, dtype=torch.long), cache=cache)
    assert cache.length == 16
    assert cache.num_bytes() == 3 * model.state_bytes(16)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", ["transformer", "rdn"])
def test_hydra_composes_what_the_files_say(model_config, name, size):
    with initialize_config_dir(config_dir=str(CONF), version_base="1.3"):
        composed = compose("config", overrides=[f"model={name}", f"size={size}"])
    config = ModelConfig(**OmegaConf.to_container(composed.model))
    assert config == model_config(name, size)
    assert (config.num_kv_heads is None) == (name == "rdn")


def test_1p5b_has_the_papers_heads(model_config):
    transformer, linear = model_config("transformer", "1p5b"), model_config("rla", "1p5b")
    assert (transformer.num_heads, transformer.head_dim_k, transformer.num_kv_heads) == (32, 128, 4)
    assert (linear.num_heads, linear.head_dim_k, linear.head_dim_v) == (16, 128, 128)


def test_every_model_has_a_file_and_the_other_way_round(model_config):
    assert {file.stem for file in (CONF / "model").glob("*.yaml")} == set(get_args(ModelName))
    assert all(model_config(name).name == name for name in get_args(ModelName))
