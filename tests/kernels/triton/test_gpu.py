"""The fused kernels on a GPU; scripts/check_kernels.py measures them over many more cases."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from rla_exp.kernels import State, linear_attention, linear_attention_step
from rla_exp.kernels.inputs import Inputs
from rla_exp.kernels.options import Options
from rla_exp.kernels.selection import select_backend
from rla_exp.kernels.triton import guard, tuning
from rla_exp.kernels.triton.backward import fused_backward
from rla_exp.kernels.triton.call import usual_tiles
from rla_exp.kernels.triton.launch import fused_forward
from rla_exp.kernels.triton.operator import operands
from rla_exp.kernels.triton.plan import Switches
from rla_exp.kernels.triton.tiles import Tiles
from rla_exp.kernels.verify.backends import load_backend
from rla_exp.kernels.verify.cases import GATED_DELTA_NET, LINEAR_ATTENTION, RDN, RLA, quick_cases
from rla_exp.kernels.verify.measure import check_case
from rla_exp.kernels.verify.problem import Case, Scenario, describe, make_problem, named_leaves, one_token

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU"),
]
OPTIONS: dict[str, Any] = {"rule": "delta", "residual": "fit"}


def problem(T: int = 200, dtype: torch.dtype = torch.bfloat16) -> Inputs:
    scenario = Scenario(name="gpu", lengths=(T,))
    return make_problem(Case(scenario=scenario, options=RDN, K=64, V=64, dtype=dtype), torch.device("cuda", 0))


def call(x: Inputs, **more: Any) -> tuple[Tensor, State]:
    o, state = linear_attention(
        x.q,
        x.k,
        x.v,
        x.g,
        x.beta,
        x.gamma,
        **OPTIONS,
        initial_state=x.initial_state,
        output_final_state=True,
        **{"backend": "triton", **more},
    )
    assert state is not None
    return o, state


def results(x: Inputs, run: Callable[..., tuple[Tensor, State]] = call) -> list[Tensor]:
    """o, the states and all gradients."""
    o, (S, R) = run(x)
    assert R is not None
    leaves = list(named_leaves(x).values())
    return [o, S, R, *torch.autograd.grad(o.float().sum() + S.square().sum() + R.square().sum(), leaves)]


@pytest.mark.parametrize("case", quick_cases(), ids=lambda case: case.name)
def test_within_the_bounds(case: Case) -> None:
    result = check_case(case, load_backend("triton"), torch.device("cuda", 0))
    assert not result.failures, result.failures


@pytest.mark.parametrize("options", [RDN, RLA, GATED_DELTA_NET, LINEAR_ATTENTION], ids=describe)
def test_tiles_by_descriptor_are_the_same(options: Options) -> None:
    """However they are loaded, all results have the same bits, but where other tiles are chosen for it."""
    scenario = Scenario(name="whole", lengths=(1024,), num_heads=4)
    case = Case(scenario=scenario, options=options, K=128, V=128, dtype=torch.bfloat16)
    x = operands(make_problem(case, torch.device("cuda", 0)), options)
    usual = usual_tiles(x, Switches.of(options))
    if not usual.forward.described:
        pytest.skip("nothing is described on this GPU")
    names = ["forward", "reverse_R", "gradients_S", "gradients_R"]
    pointers = replace(usual, **{name: replace(getattr(usual, name), described=False) for name in names})

    def bits(tiles: Tiles) -> list[Tensor]:
        o, S, R, saved = fused_forward(x, options, None, None, keep=True, tiles=tiles)
        gradients = fused_backward(x, options, saved, o, S, R, tiles=tiles)
        return [y for y in (o, S, R, *gradients) if y is not None]

    for one, other in zip(bits(usual), bits(pointers), strict=True):
        assert torch.equal(one, other)


def test_auto_takes_the_kernels_after_their_self_check(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from rla_exp.kernels.triton.operator import triton_attention

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(guard, "_outcomes", {})
    x = problem()
    assert select_backend("auto", x, RDN) is triton_attention
    (outcome,) = guard.self_checks()
    assert not outcome["failures"]
    assert outcome["gpu"] == torch.cuda.get_device_name(0)
    assert 0 < outcome["errors"]["delta fit clip 1 gated 64x64 bfloat16: 65 tokens, 2 x 2"]["dk"] < 8e-3

    def measured_again(*_: object) -> None:
        raise AssertionError

    guard._outcomes.clear()
    monkeypatch.setattr(guard, "measure", measured_again)
    assert guard.self_check(guard.Setting.of(x, RDN, step=False, gradients=True), 0) is None


def test_autotuning_takes_what_was_checked_and_keeps_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(guard, "_outcomes", {})
    monkeypatch.setattr(tuning, "_chosen", {})
    x = problem()
    expected = results(x)
    monkeypatch.setenv(tuning.VARIABLE, "1")
    got = results(x)
    for ours, usual in zip(got, expected, strict=True):
        assert (ours.double() - usual.double()).norm() <= 8e-3 * usual.double().norm()
    (record,) = tuning.tuned_tiles()
    assert record["ms"].keys() == record["chosen"].keys() == {"forward", "backward"}
    assert len(record["ms"]["forward"]) + len(record["refused"]) == len(record["candidates"])
    # the self-check of the usual tiles, and of each other
    assert len(guard.self_checks()) == len(record["candidates"])

    def timed_again(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(tuning, "milliseconds", timed_again)
    monkeypatch.setattr(tuning, "_chosen", {})
    assert all(torch.equal(again, before) for again, before in zip(results(x), got, strict=True))


# torch 2.11's inductor compiles this way itself
@pytest.mark.filterwarnings("ignore:.*torch.jit.script_method:DeprecationWarning")
def test_compiled_without_a_graph_break() -> None:
    def attend(q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor, gamma: Tensor, S: Tensor, R: Tensor) -> Any:
        state = State(S, R)
        o, last = linear_attention(
            q, k, v, g, beta, gamma, **OPTIONS, initial_state=state, output_final_state=True, backend="auto"
        )
        assert last is not None
        return o, last.S, last.R

    compiled = torch.compile(attend, fullgraph=True)

    def run(x: Inputs) -> tuple[Tensor, State]:
        o, S, R = compiled(*named_leaves(x).values())
        return o, State(S, R)

    for got, expected in zip(results(problem(), run), results(problem()), strict=True):
        assert torch.equal(got, expected)


def test_under_autocast_and_gradient_checkpointing() -> None:
    def checkpointed(x: Inputs) -> tuple[Tensor, State]:
        def attend(q: Tensor) -> tuple[Tensor, ...]:
            o, state = call(replace(x, q=q))
            return o, *state

        o, S, R = checkpoint(attend, x.q, use_reentrant=False)
        return o, State(S, R)

    expected = results(problem())
    with torch.autocast("cuda", torch.float16):
        for got, reference in zip(results(problem()), expected, strict=True):
            assert torch.equal(got, reference)
    for got, reference in zip(results(problem(), checkpointed), expected, strict=True):
        assert torch.equal(got, reference)


def test_strided_inputs_give_the_same_bits() -> None:
    x = problem()

    def strided(t: Tensor) -> Tensor:
        return t.transpose(0, 1).contiguous().transpose(0, 1)

    def run(x: Inputs) -> tuple[Tensor, State]:
        leaves = {name: strided(getattr(x, name)) for name in ("q", "k", "v", "g", "beta", "gamma")}
        return call(replace(x, **leaves))

    for got, expected in zip(results(x, run), results(x), strict=True):
        assert torch.equal(got, expected)


# torch says so of the mode itself whenever it is switched on
@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype")
def test_never_waits_for_the_gpu() -> None:
    x = problem()
    token = one_token(problem(1))
    state = token.initial_state
    assert state is not None

    def work() -> None:
        results(x)
        with torch.no_grad():
            linear_attention_step(
                token.q, token.k, token.v, token.g, token.beta, token.gamma, **OPTIONS, state=state, backend="triton"
            )

    work()
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        work()
    finally:
        torch.cuda.set_sync_debug_mode(before)


@torch.no_grad()
def test_step_in_a_cuda_graph_allocates_its_output_alone() -> None:
    token = one_token(problem(1))
    assert token.initial_state is not None
    S, R = (x.clone() for x in token.initial_state)

    def step() -> Tensor:
        o, _ = linear_attention_step(
            token.q,
            token.k,
            token.v,
            token.g,
            token.beta,
            token.gamma,
            **OPTIONS,
            state=State(S, R),
            inplace=True,
            backend="triton",
        )
        return o

    kept = [step()]
    before = torch.cuda.memory_stats()["allocation.all.allocated"]
    kept.append(step())
    assert torch.cuda.memory_stats()["allocation.all.allocated"] - before == 1

    def restart() -> None:
        for x, first in zip((S, R), token.initial_state, strict=True):
            x.copy_(first)

    restart()
    eager = [step().clone() for _ in range(3)]
    last = S.clone(), R.clone()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        o = step()
    restart()
    for expected in eager:
        graph.replay()
        assert torch.equal(o, expected)
    assert torch.equal(S, last[0])
    assert torch.equal(R, last[1])
