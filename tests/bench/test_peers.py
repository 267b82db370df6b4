"""How peers are called, with stand-ins in the place of their packages."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from rla_exp.bench.calls import lift_refusal, make_call
from rla_exp.bench.cases import Case, Op, Shape
from rla_exp.bench.implementations import OURS
from rla_exp.bench.problem import Problem, make_problem
from rla_exp.kernels import linear_attention

CPU = torch.device("cpu")


def stand_in(rule: str) -> Any:
    def compute(q: Tensor, k: Tensor, v: Tensor, **arguments: Any) -> tuple[Tensor, None]:
        options: dict[str, Any] = {"rule": rule, **arguments}
        return linear_attention(q, k, v, **options, backend="chunked")[0], None

    return compute


@pytest.fixture(autouse=True)
def peers(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """fla and flash_qla by our own backend; yields the module that refuses."""
    names = ("fla", "fla.ops", "fla.ops.common", "fla.ops.common.chunk_o", "fla.ops.delta_rule")
    names += ("fla.ops.gated_delta_rule", "fla.ops.simple_gla", "flash_qla")
    modules = {name: ModuleType(name) for name in names}
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
        parent, _, last = name.rpartition(".")
        if parent:
            setattr(modules[parent], last, module)
    modules["fla.ops.common.chunk_o"].TRITON_ABOVE_3_7_1 = False  # type: ignore[attr-defined]
    modules["fla.ops.delta_rule"].chunk_delta_rule = stand_in("delta")  # type: ignore[attr-defined]
    modules["fla.ops.gated_delta_rule"].chunk_gated_delta_rule = stand_in("delta")  # type: ignore[attr-defined]
    modules["fla.ops.simple_gla"].chunk_simple_gla = stand_in("additive")  # type: ignore[attr-defined]
    modules["flash_qla"].chunk_gated_delta_rule = stand_in("delta")  # type: ignore[attr-defined]
    lift_refusal.cache_clear()
    yield modules["fla.ops.common.chunk_o"]
    lift_refusal.cache_clear()


def problem(op: Op) -> Problem:
    return make_problem(Case(op, "fwd+bwd", Shape(1, 40, 2, 16, 16, "float32")), CPU)


@pytest.mark.parametrize(
    ("name", "op"),
    [
        ("fla", "linear_attention"),
        ("fla", "delta_net"),
        ("fla", "gated_delta_net"),
        ("flash_qla", "gated_delta_net"),
    ],
)
def test_a_peer_computes_what_ours_does(name: str, op: Op) -> None:
    theirs = make_call(name, problem(op), "chunked")()
    ours = make_call(OURS, problem(op), "chunked")()
    for found, expected in zip(theirs, ours, strict=True):  # type: ignore[call-overload]
        assert torch.equal(found, expected)


@pytest.mark.parametrize(("op", "baseline"), [("rla", "linear_attention"), ("rdn", "gated_delta_net")])
def test_the_papers_way_is_two_passes_of_the_baseline(op: Op, baseline: Op) -> None:
    twice: Any = make_call("fla_twice", problem(op), "chunked")()
    x = problem(op)
    once = Problem(Case(baseline, "fwd+bwd", x.case.shape), x.q, x.k, x.v, x.gates, x.do)
    first: Any = make_call("fla", once, "chunked")()
    options: dict[str, Any] = {"rule": "delta", "beta": x.gates["gamma"]} if op == "rdn" else {"rule": "additive"}
    o, _ = linear_attention(x.q, x.k, x.v, x.gates["g"], **options, backend="chunked")
    (second,) = torch.autograd.grad(o, x.v, x.do)
    # v's gradient is the sum over the passes
    assert torch.allclose(twice[2], first[2] + second, atol=1e-5)
    assert not torch.allclose(twice[2], first[2], atol=1e-2)


def test_the_refusal_is_lifted_and_remembered(peers: ModuleType) -> None:
    assert lift_refusal()
    assert peers.TRITON_ABOVE_3_7_1 is True
    # asked again it still says that there was one
    assert lift_refusal()


def test_without_a_refusal_nothing_is_lifted(peers: ModuleType) -> None:
    peers.TRITON_ABOVE_3_7_1 = True  # type: ignore[attr-defined]
    assert not lift_refusal()
