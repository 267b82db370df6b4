"""Packed sequences are the sequences alone."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch

from rla_exp.kernels import State, linear_attention
from rla_exp.kernels.chunked import fitting_chunk
from rla_exp.kernels.layout import packed_layout

# ragged, longest neither first nor last, one token, a multiple of every chunk length, two empty
OFFSETS = (0, 30, 31, 31, 101, 165, 165, 200)


def test_packed_is_the_definition(
    options: dict[str, Any],
    make_problem: Callable[..., Any],
    solve: Callable[..., Any],
    assert_equal: Callable[..., None],
) -> None:
    problem = make_problem(options, B=1, T=200, num_states=7)
    cu_seqlens = torch.tensor(OFFSETS)
    got = solve(problem, options, backend="chunked", cu_seqlens=cu_seqlens)
    assert_equal(got, solve(problem, options, backend="recurrent", cu_seqlens=cu_seqlens), 1e-12)


def test_gradients_from_the_output_alone(
    make_problem: Callable[..., Any], solve: Callable[..., Any], assert_equal: Callable[..., None]
) -> None:
    """No gradient comes from the last state then, and those of empty sequences' states are still there: zeros."""
    options = {"rule": "delta", "residual": "fit"}
    problem = make_problem(options, B=1, T=200, num_states=7)
    cu_seqlens = torch.tensor(OFFSETS)
    got = solve(problem, options, backend="chunked", cu_seqlens=cu_seqlens, weights="o")
    assert_equal(got, solve(problem, options, backend="recurrent", cu_seqlens=cu_seqlens, weights="o"), 1e-12)


@pytest.mark.parametrize("backend", ["recurrent", "chunked"])
@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_packed_is_each_sequence_alone(
    dtype: torch.dtype, backend: str, chunk: int, make_problem: Callable[..., Any], assert_equal: Callable[..., None]
) -> None:
    options = {"rule": "delta", "residual": "fit"}
    problem = make_problem(options, B=1, T=200, num_states=7)
    leaves = problem.leaves()
    weight = torch.randn(1, 200, 2, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    o, last = linear_attention(
        **problem.arguments,
        **options,
        initial_state=problem.state,
        output_final_state=True,
        cu_seqlens=torch.tensor(OFFSETS, dtype=dtype),
        backend=backend,
    )
    assert last is not None
    loss = (o * weight).sum() + last.S.sum() + last.R.square().sum()
    gradients = torch.autograd.grad(loss, list(leaves.values()))
    got = {"o": o, "S": last.S, "R": last.R, **{f"d{n}": d for n, d in zip(leaves, gradients, strict=True)}}

    loss = torch.zeros((), dtype=torch.float64)
    parts = []
    for n, (start, end) in enumerate(itertools.pairwise(OFFSETS)):
        state = State(*(x[n : n + 1] for x in problem.state))
        if start == end:
            part, alone = problem.arguments["v"][:, :0], state
        else:
            part, alone = linear_attention(
                **{name: x[:, start:end] for name, x in problem.arguments.items()},
                **options,
                initial_state=state,
                output_final_state=True,
                backend=backend,
            )
        loss = loss + (part * weight[:, start:end]).sum() + alone.S.sum() + alone.R.square().sum()
        parts.append((part, alone.S, alone.R))
    gradients = torch.autograd.grad(loss, list(leaves.values()))
    o = torch.cat([part[0] for part in parts], dim=1)
    S, R = (torch.cat([part[i] for part in parts]) for i in (1, 2))
    alone = {"o": o, "S": S, "R": R, **{f"d{n}": d for n, d in zip(leaves, gradients, strict=True)}}
    assert_equal(got, alone, 1e-12)


def test_a_sequence_does_not_see_its_neighbours(make_problem: Callable[..., Any]) -> None:
    options = {"rule": "delta", "residual": "fit"}
    problem = make_problem(options, B=1, T=200)
    arguments = {name: x.detach() for name, x in problem.arguments.items()}
    cu_seqlens = torch.tensor(OFFSETS)
    o, _ = linear_attention(**arguments, **options, cu_seqlens=cu_seqlens)
    arguments["v"] = arguments["v"].clone()
    arguments["v"][:, :30] += 7
    changed, _ = linear_attention(**arguments, **options, cu_seqlens=cu_seqlens)
    assert not torch.equal(changed[:, :30], o[:, :30])
    assert torch.equal(changed[:, 30:], o[:, 30:])


def test_one_long_sequence_among_many_short_ones_costs_only_its_chunks() -> None:
    offsets = (0, *range(1, 501), 500 + 3200)
    layout = packed_layout(offsets, num_heads=2, chunk=32, device=torch.device("cpu"))
    assert layout.num_rows == 2 * (500 + 100)
    assert layout.rows == (2 * 501, *[2] * 99)


@pytest.mark.parametrize(
    ("lengths", "chunk"),
    [((512,), 32), ((448,) * 8, 32), ((48,), 24), ((12, 9, 0), 12), ((56, 55, 51), 28), ((3,), 4), ((500, 1), 28)],
)
def test_chunks_leave_few_places_empty(lengths: tuple[int, ...], chunk: int) -> None:
    assert fitting_chunk(lengths, head_dim=32, longest=32) == chunk
