"""The tensors of a case: random, q and k of unit length, decays near one."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, normalize

from rla_exp.bench.cases import Case, Op

GATES: dict[Op, tuple[str, ...]] = {
    "linear_attention": ("g",),
    "delta_net": ("beta",),
    "gated_delta_net": ("g", "beta"),
    "rla": ("g", "beta", "gamma"),
    "rdn": ("g", "beta", "gamma"),
    "attention": (),
}
"""The gates an operation has; g is the log of the decay."""


@dataclass(frozen=True)
class Problem:
    """What an implementation is called with."""

    case: Case
    q: Tensor  # [B, T, H, K], of a step [B, H, K]; so are the others
    k: Tensor
    v: Tensor
    gates: dict[str, Tensor]  # [B, T, H] float32
    do: Tensor  # as v: the upstream gradient

    @property
    def differentiated(self) -> list[Tensor]:
        """What gradients are taken of in the pass fwd+bwd."""
        return [self.q, self.k, self.v, *self.gates.values()]


def make_problem(case: Case, device: torch.device) -> Problem:
    """Drawn on the device, the same each time."""
    shape = case.shape
    generator = torch.Generator(device).manual_seed(0)
    dtype: torch.dtype = getattr(torch, shape.dtype)
    heads = (shape.B, shape.H) if case.run == "step" else (shape.B, shape.T, shape.H)

    def draw(*size: int, into: torch.dtype = torch.float32) -> Tensor:
        return torch.randn(size, generator=generator, device=device, dtype=into)

    needs_grad = case.run == "fwd+bwd"
    q = normalize(draw(*heads, shape.K, into=dtype), dim=-1)
    k = normalize(draw(*heads, shape.K, into=dtype), dim=-1)
    v = draw(*heads, shape.V, into=dtype)
    gates = {}
    for name in GATES[case.op]:
        x = draw(*heads)
        gates[name] = logsigmoid(x + 3) if name == "g" else x.sigmoid()
    problem = Problem(case, q, k, v, gates, draw(*heads, shape.V, into=dtype))
    for x in problem.differentiated:
        x.requires_grad_(needs_grad)
    return problem
