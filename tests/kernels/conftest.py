"""Problems for the operator, and the one way in which tests compare tensors."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

import rla_exp.kernels.chunked
from rla_exp.kernels import State, linear_attention

COMBINATIONS: list[dict[str, Any]] = [{"rule": rule, "residual": "off"} for rule in ("additive", "delta")]
for rule, output in product(("additive", "delta"), ("gated", "sum")):
    COMBINATIONS.append({"rule": rule, "residual": "value", "output": output})
    for clip, decayed in product((1.0, None), (False, True)):
        fit = {"rule": rule, "residual": "fit", "output": output, "clip": clip, "decayed_prediction": decayed}
        COMBINATIONS.append(fit)


def name_of(options: dict[str, Any]) -> str:
    return "-".join(str(value) for value in options.values())


@pytest.fixture(params=COMBINATIONS, ids=name_of)
def options(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Every valid combination of rule, residual, clip, output and decayed_prediction."""
    return dict(request.param)


@pytest.fixture(params=[16, 32, 64])
def chunk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Every length of chunk that is used on some device, whatever the shape."""
    monkeypatch.setattr(rla_exp.kernels.chunked, "chunk_length", lambda *_: request.param)
    return int(request.param)


@dataclass
class Problem:
    """Leaves that require gradients; `arguments` and `state` fit linear_attention."""

    arguments: dict[str, Tensor | None]
    state: State

    def leaves(self) -> dict[str, Tensor]:
        named = {**self.arguments, "S": self.state.S, "R": self.state.R}
        return {name: x for name, x in named.items() if x is not None}

    def to(self, dtype: torch.dtype, device: str = "cpu") -> Problem:
        """The same numbers, rounded, as new leaves."""

        def cast(x: Tensor | None) -> Tensor | None:
            return None if x is None else x.detach().to(device, dtype).requires_grad_()

        S, R = (cast(x) for x in self.state)
        assert S is not None
        return Problem({name: cast(x) for name, x in self.arguments.items()}, State(S, R))


DECAYS: dict[str, Callable[[Tensor], Tensor | None]] = {
    # uniform noise in, log decay out
    "random": lambda u: (0.3 + 0.7 * u).log(),
    "none": lambda _: None,
    "one": torch.zeros_like,
    "1e-6": lambda u: torch.full_like(u, math.log(1e-6)),
    "1e-12": lambda u: torch.full_like(u, math.log(1e-12)),
    "-200": lambda u: torch.full_like(u, -200.0),
    "mixed": lambda u: torch.where(u < 0.2, -30.0, torch.where(u < 0.6, 0.0, -u)),
}
# the largest corrections that the delta rule allows, and the usual gates
BETAS: dict[str, Callable[[Tensor], Tensor | None]] = {
    "sigmoid": lambda u: u,
    "none": lambda _: None,
    "to2": lambda u: 2 * u,
    "0.99": lambda u: torch.full_like(u, 0.99),
    "2": lambda u: torch.full_like(u, 2.0),
}


@pytest.fixture
def make_problem() -> Callable[..., Problem]:
    """make_problem(options, T=..., ...) -> a float64 Problem with about half of the residuals beyond the bound."""

    def make(
        options: dict[str, Any],
        *,
        B: int = 2,
        T: int = 65,
        H: int = 2,
        K: int = 6,
        V: int = 4,
        num_states: int | None = None,
        decay: str = "random",
        beta: str = "sigmoid",
        collinear: bool = False,
        seed: int = 0,
    ) -> Problem:
        generator = torch.Generator().manual_seed(seed)

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator, dtype=torch.float64)

        def uniform() -> Tensor:
            return torch.rand(B, T, H, generator=generator, dtype=torch.float64)

        q, k = normal(B, T, H, K), normal(B, T, H, K)
        if collinear:
            k = normal(B, 1, H, K) + 1e-3 * k
        q, k = torch.nn.functional.normalize(q, dim=-1), torch.nn.functional.normalize(k, dim=-1)
        arguments = {
            "q": q,
            "k": k,
            "v": 1.2 * normal(B, T, H, V),
            "g": DECAYS[decay](uniform()),
            "beta": BETAS[beta](uniform()),
            "gamma": uniform() if options["residual"] != "off" else None,
        }
        shape = (num_states or B, H, K, V)
        state = State(0.5 * normal(*shape), 0.5 * normal(*shape) if options["residual"] != "off" else None)
        for leaf in (*arguments.values(), *state):
            if leaf is not None:
                leaf.requires_grad_()
        return Problem(arguments, state)

    return make


@pytest.fixture
def solve() -> Callable[..., dict[str, Tensor]]:
    """solve(problem, options, backend=..., ...) -> outputs, final states and every gradient by name."""

    def run(problem: Problem, options: dict[str, Any], *, weights: str = "oSR", **more: Any) -> dict[str, Tensor]:
        o, last = linear_attention(
            **problem.arguments, **options, initial_state=problem.state, output_final_state=True, **more
        )
        assert last is not None
        results = {"o": o, "last_S": last.S}
        if last.R is not None:
            results["last_R"] = last.R
        generator = torch.Generator().manual_seed(99)
        loss = torch.zeros((), dtype=last.S.dtype, device=last.S.device)
        for name, x in results.items():
            # drawn in any case, so that the weights of one do not depend on the others
            weight = torch.randn(x.shape, generator=generator, dtype=torch.float64).to(x)
            if name[-1] in weights:
                loss = loss + (weight * x).sum()
        leaves = problem.leaves()
        gradients = torch.autograd.grad(loss, list(leaves.values()), materialize_grads=True)
        results |= {f"d{name}": gradient for name, gradient in zip(leaves, gradients, strict=True)}
        return {name: x.detach() for name, x in results.items()}

    return run


@pytest.fixture
def assert_equal() -> Callable[..., None]:
    """assert_equal(got, expected, tolerance): max|x - ref| / max|ref| of every tensor."""

    def check(got: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float) -> None:
        assert got.keys() == expected.keys()
        errors = {}
        for name, reference in expected.items():
            x = got[name]
            assert x.shape == reference.shape, name
            assert x.isfinite().all(), f"{name} is not finite"
            scale = reference.detach().double().abs().max()
            error = (x.detach().double() - reference.detach().double()).abs().max()
            errors[name] = float(error / scale) if scale > 0 else float(error)
        wrong = {name: error for name, error in errors.items() if error > tolerance}
        assert not wrong, f"beyond {tolerance}: {wrong}"

    return check
