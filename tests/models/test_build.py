"""Building: determinism, what is drawn, what is refused; and what a model tells about itself."""

from __future__ import annotations

from typing import get_args

import pytest
import torch
from torch import nn

from rla_exp.config.schema import ModelName
from rla_exp.errors import ConfigError
from rla_exp.kernels import linear_attention
from rla_exp.models import build_model
from rla_exp.models.init import initialize
from rla_exp.models.sequence_layout import SequenceLayout

every_model = pytest.mark.parametrize("name", get_args(ModelName))


def _tokens() -> torch.Tensor:
    return torch.randint(29, (2, 20), generator=torch.Generator().manual_seed(0))


@every_model
def test_a_seed_determines_the_parameters(make_model, name):
    torch.manual_seed(1)
    first = make_model(name, seed=0).state_dict()
    torch.manual_seed(2)
    before = torch.get_rng_state()
    again, other = make_model(name, seed=0).state_dict(), make_model(name, seed=1).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(first[n], again[n]) for n in first)
    # gains and D start at 1 whatever the seed
    assert all(torch.equal(first[n], other[n]) == bool((first[n] == 1).all()) for n in first)


def test_without_a_seed_the_global_generator_decides(model_config):
    def weights(seed):
        torch.manual_seed(seed)
        return build_model(model_config("rla"), 29).embedding.weight

    assert torch.equal(weights(3), weights(3))
    assert not torch.equal(weights(3), weights(4))


@every_model
def test_matrices_have_the_std_of_the_config(model_config, name):
    model = build_model(model_config(name, init_std=0.05, embedding_std=0.5, d_model=256), 100, seed=0)
    assert model.embedding.weight.std().item() == pytest.approx(0.5, rel=4 / model.embedding.weight.numel() ** 0.5)
    model = build_model(model_config(name, init_std=0.05, embedding_std=None, d_model=256), 100, seed=0)
    matrices = {n: m.weight for n, m in model.named_modules() if isinstance(m, nn.Linear | nn.Embedding)}
    for matrix in matrices.values():
        assert matrix.std().item() == pytest.approx(0.05, rel=4 / matrix.numel() ** 0.5)
    # and no two share their numbers
    firsts = [matrix.flatten()[0].item() for matrix in matrices.values()]
    assert len(set(firsts)) == len(firsts)


def test_a_module_that_does_not_say_how_it_starts_is_refused():
    with pytest.raises(TypeError, match=r"0\.weight: LayerNorm does not say"):
        initialize(nn.Sequential(nn.LayerNorm(3)), std=0.02, embedding_std=0.02, seed=0)


@every_model
def test_gradients_reach_every_parameter(make_model, name):
    for tie_embeddings in (True, False):
        model = make_model(name, tie_embeddings=tie_embeddings)
        nn.functional.cross_entropy(model(_tokens()).flatten(0, 1), _tokens().flatten()).backward()
        for parameter_name, parameter in model.named_parameters():
            assert parameter.grad is not None, parameter_name
            assert parameter.grad.abs().max() > 1e-8, parameter_name


@every_model
def test_weight_decay_falls_on_matrices_alone(make_model, name):
    model = make_model(name)
    decayed, plain = model.parameter_groups(0.1)
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.1, 0.0)
    names = {id(parameter): n for n, parameter in model.named_parameters()}
    assert len(decayed["params"]) + len(plain["params"]) == len(names)
    assert all(names[id(p)].endswith(("_proj.weight", ".proj.weight", "embedding.weight")) for p in decayed["params"])
    ends = ("norm.weight", "conv.weight", "A_log", "dt_bias", "skip.D")
    assert all(names[id(p)].endswith(ends) for p in plain["params"])


def test_attention_calls_no_operator(make_model):
    assert make_model("transformer").operator_calls(_tokens()) == {}


@pytest.mark.parametrize("name", ["linear_attention", "retnet", "delta_net", "rla", "rdn"])
@pytest.mark.parametrize("cu_seqlens", [None, torch.tensor([0, 7, 20])])
def test_operator_calls_are_what_the_layers_do(make_model, name, cu_seqlens):
    model, tokens = make_model(name, mlp_dim=None), _tokens()[:1]
    calls = model.operator_calls(tokens, cu_seqlens)
    assert list(calls) == ["blocks.0.mixer", "blocks.1.mixer"]
    with torch.no_grad():
        # the second layer's update, rebuilt from its call
        call, mixer = calls["blocks.1.mixer"], model.blocks[1].mixer
        o, _ = linear_attention(**call)
        layout = SequenceLayout.consecutive(20, start=0, device=tokens.device)
        if cu_seqlens is not None:
            layout = SequenceLayout.packed(20, cu_seqlens)
        x = model.blocks[0](model.embedding(tokens), layout)
        gate = nn.functional.silu(mixer.gate_proj(model.blocks[1].mixer_norm(x)))
        update = mixer.out_proj(mixer.norm(o).flatten(2) * gate)
        torch.testing.assert_close(model.norm(x + update), model.hidden(tokens, cu_seqlens=cu_seqlens))
    assert not any(isinstance(value, torch.Tensor) and value.requires_grad for value in call.values())


def test_head_and_embedding(make_model):
    tied, untied = make_model("rla"), make_model("rla", tie_embeddings=False)
    hidden = tied.hidden(_tokens())
    assert hidden.shape == (2, 20, 64)
    torch.testing.assert_close(tied(_tokens()), hidden @ tied.embedding.weight.T)
    torch.testing.assert_close(untied(_tokens()), untied.hidden(_tokens()) @ untied.output.weight.T)
    assert build_model(tied.config, 29, seed=0).vocab_size == 29


def test_the_vocabulary_is_the_datas_or_the_configs(model_config):
    assert build_model(model_config("rla"), 29, seed=0).embedding.weight.shape == (29, 64)
    assert build_model(model_config("rla", vocab_size=50), 29, seed=0).embedding.weight.shape == (50, 64)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("rla", {"vocab_size": 28}, "model.vocab_size is 28, but the data's tokens go up to 28; set it to at least 29"),
        ("transformer", {"num_heads": 6, "num_kv_heads": 4}, "model.num_heads is 6, no multiple of model.num_kv_heads"),
        ("transformer", {"head_dim_v": 16}, "model.head_dim_v is 16 and model.head_dim_k 32; attention needs them"),
        ("transformer", {"head_dim_k": 7, "head_dim_v": 7}, "model.head_dim_k is 7; rotary positions need an even"),
        ("retnet", {"head_dim_k": 7}, "model.head_dim_k is 7; rotary positions need an even number"),
        ("rdn", {"num_kv_heads": 2}, "model.num_kv_heads is 2; it is attention's alone: leave it null"),
        ("rdn", {"gamma": "none"}, "model.gamma is none and model.residual fit"),
        ("gated_delta_net", {"gamma": "one"}, "model.gamma is one and model.residual off"),
        ("rla", {"gamma": "tied", "write": "one"}, "model.gamma is tied to beta, but model.write is one"),
        ("mamba2", {"decay": "none"}, "model.write is dt, which the learned decay makes, but model.decay is none"),
    ],
)
def test_settings_that_do_not_fit_are_named(model_config, name, changes, message):
    with pytest.raises(ConfigError, match=message):
        build_model(model_config(name, **changes), 29)


def test_every_problem_is_told_at_once(model_config):
    with pytest.raises(ConfigError) as caught:
        build_model(model_config("transformer", num_kv_heads=3, head_dim_v=16, vocab_size=5), 29)
    assert len(caught.value.problems) == 3


@every_model
def test_heads_need_not_fill_the_model(make_model, name):
    """head_dim_k, head_dim_v and the number of heads are free of d_model (24 = 3 x 8)."""
    other = {} if name == "transformer" else {"head_dim_v": 20}
    changes = {"d_model": 24, "num_heads": 4, "head_dim_k": 10, "head_dim_v": 10, **other}
    model = make_model(name, **changes)
    assert model(_tokens()).shape == (2, 20, 29)
