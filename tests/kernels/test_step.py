"""The step, applied T times, is the whole sequence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from rla_exp.kernels import State, linear_attention, linear_attention_step

T = 40


@pytest.mark.parametrize(("decay", "beta"), [("random", "sigmoid"), ("none", "none")])
def test_steps_are_the_sequence(
    decay: str,
    beta: str,
    options: dict[str, Any],
    make_problem: Callable[..., Any],
    assert_equal: Callable[..., None],
) -> None:
    problem = make_problem(options, T=T, decay=decay, beta=beta)
    more = {**options, "normalize_qk": True, "scale": 0.3}
    results = {}
    for how in ("steps", "sequence"):
        if how == "steps":
            state, outputs = problem.state, []
            for t in range(T):
                token = {name: None if x is None else x[:, t] for name, x in problem.arguments.items()}
                o, state = linear_attention_step(**token, **more, state=state)
                outputs.append(o)
            o = torch.stack(outputs, dim=1)
        else:
            o, state = linear_attention(
                **problem.arguments, **more, initial_state=problem.state, output_final_state=True, backend="recurrent"
            )
        leaves = problem.leaves()
        tensors = {"o": o, "S": state.S} | ({} if state.R is None else {"R": state.R})
        loss = sum((index * x.sin()).sum() for index, x in enumerate(tensors.values(), start=1))
        gradients = torch.autograd.grad(loss, list(leaves.values()))
        results[how] = tensors | {f"d{name}": d for name, d in zip(leaves, gradients, strict=True)}
    assert_equal(results["steps"], results["sequence"], 1e-12)


@torch.no_grad()
def test_inplace_writes_into_the_state(options: dict[str, Any], make_problem: Callable[..., Any]) -> None:
    problem = make_problem(options, T=1)
    token = {name: None if x is None else x[:, 0] for name, x in problem.arguments.items()}
    before = State(*(None if x is None else x.clone() for x in problem.state))
    mine = State(*(None if x is None else x.clone() for x in problem.state))

    o, new = linear_attention_step(**token, **options, state=mine)
    for old, kept in zip(before, mine, strict=True):
        assert old is None or torch.equal(old, kept)
    o_inplace, same = linear_attention_step(**token, **options, state=mine, inplace=True)
    assert torch.equal(o, o_inplace)
    assert same.S is mine.S
    assert same.R is mine.R
    assert not torch.equal(mine.S, before.S)
    for written, expected in zip(mine, new, strict=True):
        assert expected is None or torch.equal(written, expected)


@torch.no_grad()
def test_steps_go_on_from_a_sequence_in_half_precision(make_problem: Callable[..., Any]) -> None:
    options = {"rule": "delta", "residual": "fit"}
    problem = make_problem(options, T=T)
    arguments = {name: x.detach().bfloat16() for name, x in problem.arguments.items()}
    o, last = linear_attention(**arguments, **options, output_final_state=True)
    _, state = linear_attention(
        **{name: x[:, : T - 1] for name, x in arguments.items()}, **options, output_final_state=True
    )
    assert state is not None
    assert last is not None
    o_step, state = linear_attention_step(**{name: x[:, -1] for name, x in arguments.items()}, **options, state=state)
    assert o_step.dtype == torch.bfloat16
    assert state.S.dtype == torch.float32
    torch.testing.assert_close(state.S, last.S, rtol=0, atol=1e-5)
    torch.testing.assert_close(o_step.float(), o[:, -1].float(), rtol=1e-2, atol=1e-3)
