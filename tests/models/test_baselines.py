"""A residual model without its residual is its baseline, and ablations change what they say and nothing else."""

from __future__ import annotations

import pytest
import torch

BASELINES = [("rla", "linear_attention"), ("rdn", "gated_delta_net")]


def _tokens() -> torch.Tensor:
    return torch.randint(29, (2, 70), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("name", "baseline"), BASELINES)
def test_no_residual_is_the_baseline_bit_for_bit(make_model, name, baseline):
    models = make_model(name, ablation="no_residual"), make_model(baseline)
    losses = [model(_tokens()).square().mean() for model in models]
    assert torch.equal(*losses)
    for loss in losses:
        loss.backward()
    ablated, expected = ({n: p.grad for n, p in model.named_parameters()} for model in models)
    assert ablated.keys() == expected.keys()
    assert all(torch.equal(ablated[n], expected[n]) for n in expected)


@pytest.mark.parametrize(("name", "baseline"), BASELINES)
def test_the_full_model_shares_every_other_parameter_with_its_baseline(make_model, name, baseline):
    full, expected = make_model(name).state_dict(), make_model(baseline).state_dict()
    assert full.keys() - expected.keys() == {f"blocks.{i}.mixer.gamma.proj.weight" for i in range(2)}
    assert all(torch.equal(full[n], expected[n]) for n in expected)
    assert not torch.equal(make_model(name)(_tokens()), make_model(baseline)(_tokens()))


@pytest.mark.parametrize("name", ["rla", "rdn"])
def test_ablations_reach_the_operator(make_model, name):
    def calls(ablation):
        return make_model(name, ablation=ablation).operator_calls(_tokens())["blocks.1.mixer"]

    full = calls("full")
    assert (full["residual"], full["clip"], full["output"], full["normalize_qk"]) == ("fit", 1.0, "gated", True)
    assert full["decayed_prediction"] is False
    assert not torch.equal(full["gamma"], full["beta"])
    tied = calls("tied_gamma")
    assert tied["gamma"] is tied["beta"]
    assert torch.equal(calls("no_gamma")["gamma"], torch.ones(2, 70, 2))
    assert calls("no_norm")["normalize_qk"] is False
    assert calls("no_clip")["clip"] is None
    assert calls("sum_output")["output"] == "sum"
    assert calls("value_state")["residual"] == "value"
    assert calls("decayed_prediction")["decayed_prediction"] is True


@pytest.mark.parametrize("name", ["rla", "rdn"])
def test_every_ablation_gives_other_logits(make_model, name):
    names = ["full", "tied_gamma", "no_gamma", "no_norm", "no_clip", "sum_output", "value_state", "decayed_prediction"]
    names.append("no_residual")
    logits = [make_model(name, ablation=ablation)(_tokens()).detach() for ablation in names]
    for i, one in enumerate(logits):
        for j in range(i):
            assert (one - logits[j]).abs().max() > 1e-3, (names[i], names[j])
