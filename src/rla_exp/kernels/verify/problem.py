"""Problems that a backend is measured on: what tensors a case has, drawn and rounded alike everywhere."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import normalize

from rla_exp.kernels.inputs import Inputs
from rla_exp.kernels.options import DEFAULT_CLIP, Options
from rla_exp.kernels.state import State


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """Lengths and values, whatever the options and head sizes."""

    name: str
    lengths: tuple[int, ...]
    """One length: a batch of such sequences; several: packed."""
    batch_size: int = 2
    num_heads: int = 2
    decay: Literal["random", "none", "1", "1e-4"] = "random"
    beta: Literal["random", "none", "near 0", "near 1"] = "random"
    clipped: Literal["none", "some", "all"] = "some"
    collinear: bool = False
    """All keys of a head within 1e-3 of one direction."""
    rounded_gates: bool = False
    """Gates in the dtype of q, k, v instead of float32."""
    initial_state: bool = True
    gradients: bool = True
    """False: what generation runs; the backend then need not keep anything."""
    step: bool = False
    """One token by linear_attention_step, without gradients; lengths are then (1,)."""
    launches: int = 1
    """Launches that must give equal bits."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """One problem for one backend."""

    scenario: Scenario
    options: Options
    K: int
    V: int
    dtype: torch.dtype
    candidate: int = 0
    """Which of the backend's choices of block sizes; 0: the usual one."""

    @property
    def name(self) -> str:
        """Readable and unique."""
        tiles = f", candidate {self.candidate}" if self.candidate else ""
        return f"{describe(self.options)} {self.K}x{self.V} {dtype_name(self.dtype)}: {self.scenario.name}{tiles}"


def dtype_name(dtype: torch.dtype) -> str:
    """bfloat16 for torch.bfloat16."""
    return str(dtype).removeprefix("torch.")


def describe(options: Options) -> str:
    """The options that matter, in words."""
    words: list[str] = [options.rule, options.residual]
    if options.residual == "fit":
        words.append("unclipped" if options.clip is None else f"clip {options.clip:g}")
    if options.has_residual:
        words.append(options.output)
    words += ["decayed"] * options.decayed_prediction + ["normalized"] * options.normalize_qk
    return " ".join(words)


def make_problem(case: Case, device: torch.device, *, seed: int = 0) -> Inputs:
    """Leaves that require gradients; drawn on the CPU in float64 and then rounded."""
    scenario, K, V, H = case.scenario, case.K, case.V, case.scenario.num_heads
    packed = len(scenario.lengths) > 1
    B, T = (1, sum(scenario.lengths)) if packed else (scenario.batch_size, scenario.lengths[0])
    num_states = len(scenario.lengths) if packed else B
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    def uniform() -> Tensor:
        return torch.rand(B, T, H, generator=generator, dtype=torch.float64)

    q, k, v = normal(B, T, H, K), normal(B, T, H, K), normal(B, T, H, V)
    if scenario.collinear:
        k = normal(B, 1, H, K) + 1e-3 * k
    if not case.options.normalize_qk:
        q, k = normalize(q, dim=-1), normalize(k, dim=-1)
    clip = case.options.clip or DEFAULT_CLIP
    state_size = 0.5
    if scenario.clipped == "some":
        v = 1.2 * clip * v
    elif scenario.clipped == "none":
        v, state_size = 0.02 * clip * v, 0.01 * clip
    else:
        v = v.sign() * clip * (8 + v.abs())
    gate_dtype = case.dtype if scenario.rounded_gates else torch.float32

    def leaf(x: Tensor | None, dtype: torch.dtype) -> Tensor | None:
        return None if x is None else x.to(device, dtype).requires_grad_()

    def required(x: Tensor, dtype: torch.dtype) -> Tensor:
        return x.to(device, dtype).requires_grad_()

    has_residual = case.options.has_residual
    g, beta, gamma = _log_decay(scenario, uniform()), _beta(scenario, uniform()), uniform()
    state = None
    if scenario.initial_state:
        S, R = (state_size * normal(num_states, H, K, V) for _ in range(2))
        state = State(required(S, torch.float32), leaf(R, torch.float32) if has_residual else None)
    return Inputs(
        q=required(q, case.dtype),
        k=required(k, case.dtype),
        v=required(v, case.dtype),
        g=leaf(g, gate_dtype),
        beta=leaf(beta, gate_dtype),
        gamma=leaf(gamma, gate_dtype) if has_residual else None,
        initial_state=state,
        offsets=_offsets(scenario.lengths) if packed else None,
    )


def in_float64(problem: Inputs) -> Inputs:
    """The same rounded numbers as leaves of their own."""

    def required(x: Tensor) -> Tensor:
        return x.detach().double().requires_grad_()

    def leaf(x: Tensor | None) -> Tensor | None:
        return None if x is None else required(x)

    state = problem.initial_state
    return Inputs(
        q=required(problem.q),
        k=required(problem.k),
        v=required(problem.v),
        g=leaf(problem.g),
        beta=leaf(problem.beta),
        gamma=leaf(problem.gamma),
        initial_state=None if state is None else State(required(state.S), leaf(state.R)),
        offsets=problem.offsets,
    )


def one_token(problem: Inputs) -> Inputs:
    """A problem of one token as the step takes it: without the axis T, and without gradients."""

    def squeeze(x: Tensor | None) -> Tensor | None:
        return None if x is None else x.detach()[:, 0]

    q, k, v = (x.detach()[:, 0] for x in (problem.q, problem.k, problem.v))
    g, beta, gamma = (squeeze(x) for x in (problem.g, problem.beta, problem.gamma))
    assert problem.initial_state is not None
    S, R = problem.initial_state
    state = State(S.detach(), None if R is None else R.detach())
    return Inputs(q=q, k=k, v=v, g=g, beta=beta, gamma=gamma, initial_state=state)


def named_leaves(problem: Inputs) -> dict[str, Tensor]:
    """The tensors of a problem that have gradients, by name."""
    named = {name: getattr(problem, name) for name in ("q", "k", "v", "g", "beta", "gamma")}
    if problem.initial_state is not None:
        named |= {"S0": problem.initial_state.S, "R0": problem.initial_state.R}
    return {name: x for name, x in named.items() if x is not None}


def _offsets(lengths: tuple[int, ...]) -> tuple[int, ...]:
    offsets = [0]
    for length in lengths:
        offsets.append(offsets[-1] + length)
    return tuple(offsets)


def _log_decay(scenario: Scenario, noise: Tensor) -> Tensor | None:
    if scenario.decay == "none":
        return None
    if scenario.decay == "random":
        # every other head forgets within tokens, the others within hundreds
        span = torch.where(torch.arange(scenario.num_heads) % 2 == 0, 0.7, 0.02)
        return (1 - span.to(noise.dtype) * noise).log()
    return torch.full_like(noise, 0.0 if scenario.decay == "1" else math.log(1e-4))


def _beta(scenario: Scenario, noise: Tensor) -> Tensor | None:
    if scenario.beta == "none":
        return None
    return {"random": noise, "near 0": 1e-3 * noise, "near 1": 1 - 1e-3 * noise}[scenario.beta]
