"""Switches of the linear mixer: each changes what it says and nothing else, and decoding stays the parallel form."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

LENGTH = 20

SWITCHES: list[dict[str, Any]] = [
    {"decay": "none"},
    {"write": "one"},
    {"decay": "none", "write": "one"},
    {"qk_activation": "none"},
    {"v_activation": "none"},
    {"output_gate": False},
    {"conv_size": None},
]
each_switch = pytest.mark.parametrize(
    "changes", SWITCHES, ids=lambda changes: "-".join(f"{name}={value}" for name, value in changes.items())
)


def _tokens() -> Tensor:
    return torch.randint(29, (2, LENGTH), generator=torch.Generator().manual_seed(0))


def _convolved(x: Tensor, weight: Tensor) -> Tensor:
    """y_t = sum_j weight[:, kernel - 1 - j] x_{t-j}."""
    kernel = weight.shape[1]
    return sum(F.pad(x, (0, 0, lag, 0))[:, : x.shape[1]] * weight[:, kernel - 1 - lag] for lag in range(kernel))


@each_switch
@torch.no_grad()
def test_a_switch_changes_what_it_says(make_model, changes):
    model = make_model("linear_attention", **changes, mlp_dim=None, num_layers=1).double()
    mixer, call = model.blocks[0].mixer, model.operator_calls(_tokens())["blocks.0.mixer"]
    x = model.embedding(_tokens())
    h = x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt()

    qkv = h @ mixer.qkv_proj.weight.T
    if "conv_size" not in changes:
        qkv = _convolved(qkv, mixer.conv.weight)
    q, k, v = qkv.split(64, dim=-1)
    if "qk_activation" not in changes:
        q, k = q * torch.sigmoid(q), k * torch.sigmoid(k)
    if "v_activation" not in changes:
        v = v * torch.sigmoid(v)
    expected = {name: y.unflatten(-1, (2, 32)) for name, y in (("q", q), ("k", k), ("v", v))}
    expected["g"] = expected["beta"] = None
    if "decay" not in changes:
        z = h @ mixer.decay.proj.weight.T + mixer.decay.dt_bias
        expected["g"] = -mixer.decay.A_log.exp() * torch.log1p(z.exp())
    if "write" not in changes:
        expected["beta"] = 1 / (1 + torch.exp(-(h @ mixer.beta.proj.weight.T)))
    for name, value in expected.items():
        if value is None:
            assert call[name] is None, name
        else:
            torch.testing.assert_close(call[name], value)

    # the operator written out as a sum over earlier tokens: o_t = sum_i a_{i+1} .. a_t b_i (k_i . q_t) v_i
    q, k = (y / (y.square().sum(-1, keepdim=True) + 1e-6).sqrt() for y in (expected["q"], expected["k"]))
    scores = torch.einsum("bthk,bihk->bhti", q / 32**0.5, k)
    log_decay = torch.zeros(2, LENGTH, 2).double() if expected["g"] is None else expected["g"]
    total = log_decay.cumsum(1).transpose(1, 2)
    between = (total[..., :, None] - total[..., None, :]).exp().tril()
    beta = torch.ones_like(log_decay) if expected["beta"] is None else expected["beta"]
    o = torch.einsum("bhti,bih,bihv->bthv", scores * between, beta, expected["v"])
    o = (o / (o.square().mean(-1, keepdim=True) + 1e-6).sqrt()).flatten(2)
    if "output_gate" not in changes:
        gate = h @ mixer.gate_proj.weight.T
        o = o * gate * torch.sigmoid(gate)
    x = x + o @ mixer.out_proj.weight.T
    hidden = x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt()
    torch.testing.assert_close(model.hidden(_tokens()), hidden)
    # and it is another model than without the switch
    usual = make_model("linear_attention", mlp_dim=None, num_layers=1).double()
    assert (usual.hidden(_tokens()) - hidden).abs().max() > 1e-2


@each_switch
@pytest.mark.parametrize("name", ["linear_attention", "rdn"])
@torch.no_grad()
def test_decoding_equals_the_parallel_form(make_model, name, changes):
    model, tokens = make_model(name, **changes).double(), _tokens()
    cache = model.new_cache(2)
    steps = [model(tokens[:, t : t + 1], cache=cache) for t in range(LENGTH)]
    expected = model(tokens)
    assert expected.abs().max() > 1
    torch.testing.assert_close(torch.cat(steps, dim=1), expected, rtol=1e-9, atol=1e-9)


@each_switch
def test_a_switched_off_part_has_no_parameters(make_model, changes):
    gone = {
        "decay": {"decay.A_log", "decay.dt_bias", "decay.proj.weight"},
        "write": {"beta.proj.weight"},
        "output_gate": {"gate_proj.weight"},
        "conv_size": {"conv.weight"},
    }
    usual, switched = (
        set(make_model("linear_attention", **more).blocks[0].mixer.state_dict()) for more in ({}, changes)
    )
    assert usual - switched == set().union(*(gone.get(name, set()) for name in changes))
    assert switched <= usual
