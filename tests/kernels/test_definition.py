"""The definition itself, against numbers worked out by hand and formulas of another shape."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from rla_exp.kernels import State, linear_attention

# two tokens, K = V = 1, from empty states: a = 0.5, b = 0.5 then 0.25, y = 0.5, v = 3 then 2, k = 1, q = 1 then 2.
# RDN by hand: r_1 = clip(3) = 1, S_1 = 1.5, R_1 = 0.5, o_1 = 0.25;
# r_2 = 2 - 1.5 = 0.5, S_2 = 0.75 * 0.75 + 0.5, R_2 = 0.25 * 0.5 + 0.25, o_2 = 0.5 * 1.5 * 2 + 0.5 * R_2 * 2
BY_HAND = [
    ({"rule": "delta", "residual": "fit"}, (0.25, 1.875), 1.0625, 0.375),
    ({"rule": "additive", "residual": "fit"}, (0.25, 2.0), 1.25, 0.5),
    ({"rule": "delta", "residual": "fit", "output": "sum"}, (0.5, 3.75), 1.0625, 0.375),
    ({"rule": "delta", "residual": "value"}, (0.75, 2.875), 1.0625, 1.375),
    # r_2 = clip(2 - 0.75) = 1
    ({"rule": "delta", "residual": "fit", "decayed_prediction": True}, (0.25, 2.125), 1.0625, 0.625),
    # r_1 = 3, R_1 = 1.5
    ({"rule": "delta", "residual": "fit", "clip": None}, (0.75, 2.125), 1.0625, 0.625),
    ({"rule": "delta", "residual": "off"}, (1.5, 2.125), 1.0625, None),
    ({"rule": "additive", "residual": "off"}, (1.5, 2.5), 1.25, None),
]


@pytest.mark.parametrize("backend", ["recurrent", "chunked"])
@pytest.mark.parametrize(("options", "outputs", "S", "R"), BY_HAND)
def test_two_tokens_by_hand(
    options: dict[str, Any], outputs: tuple[float, float], S: float, R: float | None, backend: str
) -> None:
    def column(*values: float) -> Tensor:
        return torch.tensor(values, dtype=torch.float64).view(1, 2, 1)

    o, state = linear_attention(
        column(1, 2).unsqueeze(-1),
        column(1, 1).unsqueeze(-1),
        column(3, 2).unsqueeze(-1),
        column(0.5, 0.5).log(),
        column(0.5, 0.25),
        column(0.5, 0.5) if R is not None else None,
        scale=1.0,
        output_final_state=True,
        backend=backend,
        **options,
    )
    assert state is not None
    assert o.flatten().tolist() == pytest.approx(outputs, rel=1e-15)
    assert state.S.item() == pytest.approx(S, rel=1e-15)
    assert (state.R is None) if R is None else (state.R.item() == pytest.approx(R, rel=1e-15))


def test_the_state_is_keys_by_values() -> None:
    k = torch.tensor([0.0, 1.0]).view(1, 1, 1, 2)
    v = torch.tensor([1.0, 2.0, 3.0]).view(1, 1, 1, 3)
    _, state = linear_attention(k, k, v, rule="additive", output_final_state=True, backend="recurrent")
    assert state is not None
    assert state.S.tolist() == [[[[0.0, 0.0, 0.0], [1.0, 2.0, 3.0]]]]


def test_scale_defaults_to_the_root_of_the_key_width() -> None:
    q = torch.ones(1, 1, 1, 16)
    o, _ = linear_attention(q, q, q[..., :1], rule="additive", backend="recurrent")
    assert o.item() == pytest.approx(16 / 4)
    o, _ = linear_attention(q, q, q[..., :1], rule="additive", backend="recurrent", scale=0.5)
    assert o.item() == pytest.approx(8)


def test_normalize_qk_divides_by_the_length() -> None:
    q = torch.tensor([3.0, 4.0], dtype=torch.float64).view(1, 1, 1, 2)
    v = torch.ones(1, 1, 1, 1, dtype=torch.float64)
    o, _ = linear_attention(q, 2 * q, v, rule="additive", backend="recurrent", normalize_qk=True, scale=1.0)
    assert o.item() == pytest.approx(50 / ((25 + 1e-6) * (100 + 1e-6)) ** 0.5, rel=1e-15)


def test_additive_rule_is_decayed_attention(make_problem: Callable[..., Any]) -> None:
    problem = make_problem({"residual": "off"}, T=20)
    q, k, v, g, beta = (problem.arguments[name] for name in ("q", "k", "v", "g", "beta"))
    o, _ = linear_attention(q, k, v, g, beta, rule="additive", backend="recurrent", scale=1.0)
    for t in range(20):
        expected = sum(
            (g[:, i + 1 : t + 1].sum(1).exp() * beta[:, i] * (k[:, i] * q[:, t]).sum(-1))[..., None] * v[:, i]
            for i in range(t + 1)
        )
        torch.testing.assert_close(o[:, t], expected, rtol=0, atol=1e-14)


def test_delta_rule_is_a_sum_over_products_of_reflections(make_problem: Callable[..., Any]) -> None:
    problem = make_problem({"residual": "off"}, B=1, H=1, T=12)
    q, k, v, g, beta = (problem.arguments[name][0, :, 0].detach() for name in ("q", "k", "v", "g", "beta"))
    transitions = [
        g[t].exp() * (torch.eye(6, dtype=torch.float64) - beta[t] * torch.outer(k[t], k[t])) for t in range(12)
    ]
    # S_t = sum over i of b_i v_i k_i^T A_{i+1} .. A_t, in the paper's d_v x d_k
    S = torch.zeros(4, 6, dtype=torch.float64)
    for i in range(12):
        term = beta[i] * torch.outer(v[i], k[i])
        for t in range(i + 1, 12):
            term = term @ transitions[t]
        S += term
    o, state = linear_attention(
        **{name: problem.arguments[name] for name in ("q", "k", "v", "g", "beta")},
        rule="delta",
        backend="recurrent",
        scale=1.0,
        output_final_state=True,
    )
    assert state is not None
    torch.testing.assert_close(state.S[0, 0].T, S, rtol=0, atol=1e-14)
    torch.testing.assert_close(o[0, -1, 0], S @ q[-1], rtol=0, atol=1e-14)


@pytest.mark.filterwarnings("ignore")  # transformers warns of what it cannot find as it is imported
def test_delta_rule_is_that_of_qwen3_next(make_problem: Callable[..., Any]) -> None:
    modeling = pytest.importorskip("transformers.models.qwen3_next.modeling_qwen3_next")
    problem = make_problem({"residual": "off"}, T=100).to(torch.float32)
    arguments = {name: x for name, x in problem.arguments.items() if x is not None}
    expected, last = modeling.torch_recurrent_gated_delta_rule(
        arguments["q"],
        arguments["k"],
        arguments["v"],
        arguments["g"],
        arguments["beta"],
        initial_state=problem.state.S,
        output_final_state=True,
    )
    o, state = linear_attention(
        **arguments, rule="delta", initial_state=problem.state, output_final_state=True, backend="recurrent"
    )
    assert state is not None
    torch.testing.assert_close(o, expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(state.S, last, rtol=0, atol=1e-6)


def test_gradients_of_the_definition(options: dict[str, Any], make_problem: Callable[..., Any]) -> None:
    problem = make_problem(options, B=1, T=3, H=1, K=2, V=2)
    leaves = problem.leaves()

    def compute(*values: Tensor) -> tuple[Tensor, ...]:
        given = dict(zip(leaves, values, strict=True))
        state = State(given.pop("S"), given.pop("R", None))
        o, last = linear_attention(
            **given, **options, initial_state=state, output_final_state=True, backend="recurrent", normalize_qk=True
        )
        assert last is not None
        return (o, *(x for x in last if x is not None))

    assert torch.autograd.gradcheck(compute, tuple(leaves.values()))
