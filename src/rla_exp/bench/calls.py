"""A case as a function without arguments, for each implementation."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from rla_exp.bench.cases import OPTIONS
from rla_exp.bench.costs import IN_ONE
from rla_exp.bench.implementations import OURS
from rla_exp.bench.problem import Problem
from rla_exp.kernels import State, linear_attention, linear_attention_step
from rla_exp.kernels.options import Options

Forward = Callable[[], tuple[Tensor, ...]]


def make_call(name: str, problem: Problem, backend: str) -> Callable[[], object]:
    """What is timed: outputs, and in the pass fwd+bwd the gradients of everything that goes in.

    Args:
        name: of the implementation.
        backend: of ours.
    """
    if problem.case.run == "step":
        assert name == OURS
        return _step(problem, backend)
    forward = _forward(name, problem, backend)
    if problem.case.run == "fwd":
        return torch.no_grad()(forward)

    def both() -> object:
        outputs = forward()
        # passes of linear attention do not use all gates of rla
        unused = name != OURS
        return torch.autograd.grad(outputs, problem.differentiated, [problem.do] * len(outputs), allow_unused=unused)

    return both


def passes_in_one(problem: Problem, backend: str) -> list[str]:
    """Which of our passes (costs.IN_ONE) are kernels for Hopper, which have floors of their own."""
    case = problem.case
    if backend != "triton" or case.run == "step":
        return []
    # Triton is not everywhere
    from rla_exp.kernels.triton.call import Operands, usual_tiles
    from rla_exp.kernels.triton.plan import Switches

    gate = problem.q.new_empty(())
    x = Operands(problem.q, problem.k, problem.v, gate, gate, None, None)
    tiles = usual_tiles(x, Switches.of(Options(**OPTIONS[case.op])))
    return [name for name in IN_ONE if getattr(tiles, f"{name}_on_hopper")]


def _forward(name: str, problem: Problem, backend: str) -> Forward:
    op, q, k, v = problem.case.op, problem.q, problem.k, problem.v
    if name == OURS:
        arguments: dict[str, Any] = {**problem.gates, **OPTIONS[op], "backend": backend}
        return lambda: (linear_attention(q, k, v, **arguments)[0],)
    if name.startswith("sdpa"):
        return _attention(problem, SDPBackend.CUDNN_ATTENTION if name == "sdpa_cudnn" else SDPBackend.FLASH_ATTENTION)
    return _linear_peer(name, problem)


def _attention(problem: Problem, backend: SDPBackend) -> Forward:
    def forward() -> tuple[Tensor, ...]:
        q, k, v = (x.transpose(1, 2) for x in (problem.q, problem.k, problem.v))
        with sdpa_kernel(backend):
            return (scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2),)

    return forward


def _linear_peer(name: str, problem: Problem) -> Forward:
    op, q, k, v, gates = problem.case.op, problem.q, problem.k, problem.v, problem.gates
    if name == "flash_qla":
        from flash_qla import chunk_gated_delta_rule as flash_qla_rule

        scale = q.shape[-1] ** -0.5
        return lambda: (flash_qla_rule(q=q, k=k, v=v, g=gates["g"], beta=gates["beta"], scale=scale)[0],)

    lift_refusal()
    from fla.ops.delta_rule import chunk_delta_rule
    from fla.ops.gated_delta_rule import chunk_gated_delta_rule
    from fla.ops.simple_gla import chunk_simple_gla

    def once(strength: str) -> Tensor:
        if op in ("linear_attention", "rla"):
            return chunk_simple_gla(q, k, v, g=gates["g"])[0]  # type: ignore[no-any-return]
        if op == "delta_net":
            return chunk_delta_rule(q, k, v, beta=gates[strength])[0]  # type: ignore[no-any-return]
        return chunk_gated_delta_rule(q, k, v, g=gates["g"], beta=gates[strength])[0]  # type: ignore[no-any-return]

    if name == "fla":
        return lambda: (once("beta"),)
    # the paper's way; what makes the residual of the first pass's result is not counted
    return lambda: (once("beta"), once("gamma"))


@cache
def lift_refusal() -> bool:
    """Let fla's gated backward run where it refuses this Triton, whether or not its results are right (its issue 640).

    Returns whether there was something to lift: then its times are no proof of right results.
    """
    import fla.ops.common.chunk_o as chunk_o

    refuses = getattr(chunk_o, "TRITON_ABOVE_3_7_1", True) is False
    if refuses:
        chunk_o.TRITON_ABOVE_3_7_1 = True
    return refuses


def _step(problem: Problem, backend: str) -> Callable[[], object]:
    """In place, on a GPU as a CUDA graph, as generation runs it."""
    shape = problem.case.shape
    options = OPTIONS[problem.case.op]
    size = (shape.B, shape.H, shape.K, shape.V)
    S = torch.zeros(size, device=problem.q.device)
    state = State(S, torch.zeros_like(S) if "residual" in options else None)
    arguments: dict[str, Any] = {**problem.gates, **options, "state": state, "inplace": True, "backend": backend}

    @torch.no_grad()
    def step() -> object:
        return linear_attention_step(problem.q, problem.k, problem.v, **arguments)

    if not problem.q.is_cuda:
        return step
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        step()
        step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay
