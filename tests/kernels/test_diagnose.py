"""Diagnostics against a direct computation from the definition's own states."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from rla_exp.kernels import diagnose, linear_attention, linear_attention_step


def direct(problem: Any, options: dict[str, Any]) -> dict[str, torch.Tensor | None]:
    """Token by token through the step; each prediction is read off the state before it."""
    arguments, state = problem.arguments, problem.state
    clip = options.get("clip", 1.0)
    errors = []
    for t in range(arguments["q"].shape[1]):
        prediction = torch.einsum("bhkv,bhk->bhv", state.S, arguments["k"][:, t])
        if options.get("decayed_prediction") and arguments["g"] is not None:
            prediction = arguments["g"][:, t, :, None].exp() * prediction
        errors.append(arguments["v"][:, t] - prediction)
        token = {name: None if x is None else x[:, t] for name, x in arguments.items()}
        _, state = linear_attention_step(**token, **options, state=state)
    error = torch.stack(errors, dim=1)
    r = error if clip is None else error.clamp(-clip, clip)
    fit = options["residual"] == "fit"
    return {
        "residual_norm": (r**2).sum(-1).mean((0, 1)) ** 0.5 if fit else None,
        "share_clipped": (error.abs() > (clip or torch.inf)).double().mean((0, 1, 3)) if fit else None,
        "S_norm": (state.S**2).sum((2, 3)).sqrt().mean(0),
        "R_norm": None if state.R is None else (state.R**2).sum((2, 3)).sqrt().mean(0),
    }


def test_against_the_definition(options: dict[str, Any], make_problem: Callable[..., Any]) -> None:
    problem = make_problem(options, T=70)
    statistics = diagnose(**problem.arguments, **options, initial_state=problem.state)
    for name, expected in direct(problem, options).items():
        got = getattr(statistics, name)
        if expected is None:
            assert got is None, name
        else:
            assert not got.requires_grad
            assert got.shape == (2,)
            torch.testing.assert_close(got, expected.detach(), rtol=1e-12, atol=0)
    if options["residual"] == "fit" and options["clip"] is not None:
        assert ((statistics.share_clipped > 0.2) & (statistics.share_clipped < 0.8)).all()


def test_takes_what_linear_attention_takes(make_problem: Callable[..., Any]) -> None:
    options = {"rule": "delta", "residual": "fit"}
    arguments = {name: x.detach() for name, x in make_problem(options, B=1, T=70).arguments.items()}
    call = {**arguments, **options, "cu_seqlens": torch.tensor([0, 20, 70]), "output_final_state": True}
    _, last = linear_attention(**call)
    statistics = diagnose(**call)
    assert last is not None
    torch.testing.assert_close(statistics.S_norm, (last.S**2).sum((2, 3)).sqrt().mean(0))
    with pytest.raises(ValueError, match="gamma=None"):
        diagnose(**{**call, "gamma": None})
