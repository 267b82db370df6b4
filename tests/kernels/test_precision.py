"""Other dtypes and modes of PyTorch: states and gates stay float32, results stay right."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from rla_exp.kernels import linear_attention
from rla_exp.kernels.decay import _intervals

RDN = {"rule": "delta", "residual": "fit"}


def test_float32(
    options: dict[str, Any],
    make_problem: Callable[..., Any],
    solve: Callable[..., Any],
    assert_equal: Callable[..., None],
) -> None:
    problem = make_problem(options, B=1, T=200)
    expected = solve(problem, options, backend="recurrent")
    got = solve(problem.to(torch.float32), options, backend="chunked")
    assert {x.dtype for x in got.values()} == {torch.float32}
    assert_equal(got, expected, 1e-4)


@pytest.mark.parametrize("decay", ["1e-6", "1e-12", "-200", "mixed"])
@pytest.mark.parametrize("rule", ["additive", "delta"])
def test_float32_with_strong_decays(
    decay: str,
    rule: str,
    make_problem: Callable[..., Any],
    solve: Callable[..., Any],
    assert_equal: Callable[..., None],
) -> None:
    options = {**RDN, "rule": rule}
    problem = make_problem(options, B=1, T=130, decay=decay)
    expected = solve(problem, options, backend="recurrent")
    if decay == "-200":
        # exp(-200) is 0 in float32: nothing comes through g, nor from R before the first token
        expected["dg"].zero_()
        expected["dR"].zero_()
    assert_equal(solve(problem.to(torch.float32), options, backend="chunked"), expected, 1e-4)


@pytest.mark.parametrize(
    "case",
    [
        {"decay": "none"},
        {"decay": "one"},
        {"beta": "none"},
        {"decay": "none", "beta": "none", "collinear": True},
        {"decay": "one", "collinear": True},
        {"collinear": True},
    ],
    ids=lambda case: "-".join(f"{name}={value}" for name, value in case.items()),
)
@pytest.mark.parametrize("cu_seqlens", [None, torch.tensor([0, 1, 71, 71, 135, 200])], ids=["rows", "packed"])
@pytest.mark.parametrize("rule", ["additive", "delta"])
def test_float32_gates_and_keys_by_chunk(
    case: dict[str, Any],
    cu_seqlens: torch.Tensor | None,
    rule: str,
    chunk: int,
    make_problem: Callable[..., Any],
    solve: Callable[..., Any],
    assert_equal: Callable[..., None],
) -> None:
    options = {**RDN, "rule": rule}
    problem = make_problem(options, B=1, T=200, num_states=None if cu_seqlens is None else 5, **case)
    expected = solve(problem, options, backend="recurrent", cu_seqlens=cu_seqlens)
    got = solve(problem.to(torch.float32), options, backend="chunked", cu_seqlens=cu_seqlens)
    assert_equal(got, expected, 1e-4)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-11), (torch.float32, 5e-3)])
@pytest.mark.parametrize("collinear", [False, True])
def test_the_strongest_writes_without_decay(
    dtype: torch.dtype,
    tolerance: float,
    collinear: bool,
    chunk: int,
    make_problem: Callable[..., Any],
    solve: Callable[..., Any],
    assert_equal: Callable[..., None],
) -> None:
    """beta = 2 reflects at every key and damps no error; docs/math.md ("Chunks") says what collinear keys then cost."""
    problem = make_problem(RDN, B=1, T=200, decay="none", beta="2", collinear=collinear)
    expected = solve(problem, RDN, backend="recurrent")
    got = solve(problem.to(dtype), RDN, backend="chunked")
    if not collinear:
        tolerance = 1e-12 if dtype == torch.float64 else 1e-4
    assert_equal(got, expected, tolerance)


@pytest.mark.parametrize("backend", ["recurrent", "chunked"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_float32_inside(dtype: torch.dtype, backend: str, make_problem: Callable[..., Any]) -> None:
    problem = make_problem(RDN).to(dtype)
    o, last = linear_attention(**problem.arguments, **RDN, output_final_state=True, backend=backend)
    exact = problem.to(torch.float32)
    expected, last_expected = linear_attention(**exact.arguments, **RDN, output_final_state=True, backend=backend)
    assert last is not None
    assert last_expected is not None
    assert o.dtype == dtype
    assert last.S.dtype == last.R.dtype == torch.float32
    assert torch.equal(o, expected.to(dtype))
    assert torch.equal(last.R, last_expected.R)
    gradients = torch.autograd.grad(o.float().sum(), list(problem.arguments.values()))
    assert {d.dtype for d in gradients} == {dtype}
    assert all(d.isfinite().all() for d in gradients)


def test_o_has_the_dtype_of_v(make_problem: Callable[..., Any]) -> None:
    arguments = {name: x.detach().float() for name, x in make_problem(RDN).arguments.items()}
    arguments["v"] = arguments["v"].bfloat16()
    o, last = linear_attention(**arguments, **RDN, output_final_state=True)
    assert last is not None
    assert (o.dtype, last.S.dtype) == (torch.bfloat16, torch.float32)


@pytest.mark.parametrize("backend", ["recurrent", "chunked"])
def test_autocast_does_not_reach_inside(
    backend: str, make_problem: Callable[..., Any], solve: Callable[..., Any], assert_equal: Callable[..., None]
) -> None:
    problem = make_problem(RDN).to(torch.float32)
    expected = solve(problem, RDN, backend=backend)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = solve(problem, RDN, backend=backend)
    if backend == "recurrent":
        # autograd's own backward pass obeys an autocast around it
        got, expected = ({name: x[name] for name in ("o", "last_S", "last_R")} for x in (got, expected))
    assert_equal(got, expected, 0.0)


def test_nothing_uninitialized_is_read(
    options: dict[str, Any],
    make_problem: Callable[..., Any],
    solve: Callable[..., Any],
    assert_equal: Callable[..., None],
) -> None:
    problem = make_problem(options, B=1, T=70)
    expected = solve(problem, options, backend="chunked")
    # deterministic mode fills empty memory with NaN
    torch.use_deterministic_algorithms(True)
    try:
        assert torch.utils.deterministic.fill_uninitialized_memory
        assert_equal(solve(problem, options, backend="chunked"), expected, 0.0)
    finally:
        torch.use_deterministic_algorithms(False)


def test_training_after_inference_mode(
    make_problem: Callable[..., Any], solve: Callable[..., Any], assert_equal: Callable[..., None]
) -> None:
    problem = make_problem(RDN)
    _intervals.cache_clear()
    with torch.inference_mode():
        linear_attention(**problem.arguments, **RDN)
    assert_equal(solve(problem, RDN, backend="chunked"), solve(problem, RDN, backend="recurrent"), 1e-12)


def test_under_activation_checkpointing(make_problem: Callable[..., Any]) -> None:
    arguments = list(make_problem(RDN).arguments.values())

    def call(*arguments: torch.Tensor) -> torch.Tensor:
        return linear_attention(*arguments, **RDN)[0].sin().sum()

    expected = torch.autograd.grad(call(*arguments), arguments)
    got = torch.autograd.grad(checkpoint(call, *arguments, use_reentrant=False), arguments)
    assert all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))


def test_strided_arguments_and_gradients(make_problem: Callable[..., Any]) -> None:
    arguments = {name: x.detach() for name, x in make_problem(RDN).arguments.items()}
    strided = {name: x.transpose(1, 2).contiguous().transpose(1, 2) for name, x in arguments.items()}
    assert not strided["q"].is_contiguous()
    assert torch.equal(linear_attention(**strided, **RDN)[0], linear_attention(**arguments, **RDN)[0])
    v = arguments["v"].requires_grad_()
    o, _ = linear_attention(**{**arguments, "v": v}, **RDN)
    (expanded,) = torch.autograd.grad(o.sum(), v, retain_graph=True)
    (full,) = torch.autograd.grad(o, v, torch.ones_like(o))
    assert torch.equal(expanded, full)
