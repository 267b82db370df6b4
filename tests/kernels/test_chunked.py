"""The chunkwise form is the definition: outputs, states and every gradient, to rounding."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from rla_exp.kernels import State, diagnose, linear_attention

TOLERANCE = 1e-12
FIT = {"residual": "fit"}


def compare(
    problem: Any,
    options: dict[str, Any],
    solve: Callable[..., Any],
    assert_equal: Callable[..., None],
    *,
    most_clipped: float = 0.8,
    **more: Any,
) -> None:
    got = solve(problem, options, backend="chunked", **more)
    assert_equal(got, solve(problem, options, backend="recurrent", **more), TOLERANCE)
    if options.get("clip", 1.0) is not None and options["residual"] == "fit":
        more.pop("weights", None)
        share = diagnose(**problem.arguments, **options, initial_state=problem.state, **more).share_clipped
        assert share is not None
        assert 0.2 < share.mean() < most_clipped


@pytest.mark.parametrize("T", [1, 7, 63, 64, 65, 200])
def test_every_length(
    T: int,
    options: dict[str, Any],
    make_problem: Callable[..., Any],
    solve: Callable[..., Any],
    assert_equal: Callable[..., None],
) -> None:
    compare(make_problem(options, T=T, B=4 if T == 1 else 1), options, solve, assert_equal)


@pytest.mark.parametrize("decay", ["none", "one", "1e-6", "1e-12", "-200", "mixed"])
def test_every_decay(
    decay: str,
    options: dict[str, Any],
    make_problem: Callable[..., Any],
    solve: Callable[..., Any],
    assert_equal: Callable[..., None],
) -> None:
    compare(make_problem(options, B=1, decay=decay), options, solve, assert_equal)


@pytest.mark.parametrize("decay", ["none", "random"])
@pytest.mark.parametrize("beta", ["none", "to2", "0.99"])
@pytest.mark.parametrize("collinear", [False, True])
def test_every_gate_and_near_collinear_keys(
    decay: str,
    beta: str,
    collinear: bool,
    options: dict[str, Any],
    make_problem: Callable[..., Any],
    solve: Callable[..., Any],
    assert_equal: Callable[..., None],
) -> None:
    problem = make_problem(options, B=1, decay=decay, beta=beta, collinear=collinear)
    # without the delta rule what is written at one key adds up, and residuals grow
    compare(problem, options, solve, assert_equal, most_clipped=0.95 if collinear else 0.8)


@pytest.mark.parametrize("K", [3, 24])
@pytest.mark.parametrize("V", [5, 40])
def test_every_chunk_length_width_and_normalization(
    K: int,
    V: int,
    chunk: int,
    make_problem: Callable[..., Any],
    solve: Callable[..., Any],
    assert_equal: Callable[..., None],
) -> None:
    for rule in ("additive", "delta"):
        problem = make_problem(FIT, T=150, K=K, V=V)
        for name in ("q", "k"):
            problem.arguments[name] = (3 * problem.arguments[name]).detach().requires_grad_()
        more = {"normalize_qk": True, "scale": 0.7}
        compare(problem, {"rule": rule, **FIT}, solve, assert_equal, **more)


@pytest.mark.parametrize("weights", ["o", "S", "R"])
@pytest.mark.parametrize("rule", ["additive", "delta"])
def test_gradients_from_one_result_alone(
    weights: str,
    rule: str,
    make_problem: Callable[..., Any],
    solve: Callable[..., Any],
    assert_equal: Callable[..., None],
) -> None:
    compare(make_problem(FIT), {"rule": rule, **FIT}, solve, assert_equal, weights=weights)


def test_without_an_initial_state(options: dict[str, Any], make_problem: Callable[..., Any]) -> None:
    problem = make_problem(options)
    zeros = State(*(None if x is None else torch.zeros_like(x) for x in problem.state))
    o, last = linear_attention(**problem.arguments, **options)
    expected, _ = linear_attention(**problem.arguments, **options, initial_state=zeros)
    assert last is None
    assert torch.equal(o, expected)


def test_the_bound_itself_passes_the_gradient() -> None:
    """As torch.clamp does: entries at +-c are within the bound, entries beyond are not."""
    v = torch.tensor([-1.5, -1.0, 0.5, 1.0, 1.5]).view(1, 1, 1, 5).requires_grad_()
    k = torch.ones(1, 1, 1, 1)
    gates = torch.ones(1, 1, 1)
    for backend in ("recurrent", "chunked"):
        # from an empty state r = clip(v) and o = R q, while S is written after it was read
        o, _ = linear_attention(k, k, v, None, gates, gates, rule="delta", residual="fit", backend=backend)
        (gradient,) = torch.autograd.grad(o.sum(), v)
        assert gradient.flatten().tolist() == [0, 1, 1, 1, 0]
