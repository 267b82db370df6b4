"""The kernels in Triton's interpreter, which needs no GPU. Not collected by itself: test_interpreter.py starts it.

Float32 and float16 only: the interpreter's products in bfloat16 are wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch

from rla_exp.kernels import State
from rla_exp.kernels.inputs import Inputs
from rla_exp.kernels.options import Options
from rla_exp.kernels.triton import backward, launch, operator, plan, tiles
from rla_exp.kernels.triton.call import usual_tiles
from rla_exp.kernels.triton.descriptors import Loads
from rla_exp.kernels.triton.step import triton_step
from rla_exp.kernels.triton.tiles import Tiles, candidates
from rla_exp.kernels.verify.backends import load_backend
from rla_exp.kernels.verify.cases import CANDIDATES, GATED_DELTA_NET, LINEAR_ATTENTION, RDN, RLA, option_sets
from rla_exp.kernels.verify.measure import check_case
from rla_exp.kernels.verify.problem import Case, Scenario, describe, make_problem, named_leaves, one_token

BACKEND = load_backend("triton")
CPU = torch.device("cpu")
Cut = Callable[..., list[tuple[int, int]]]


def check(
    options: Options,
    *,
    K: int = 16,
    V: int = 16,
    dtype: torch.dtype = torch.float32,
    candidate: int = 0,
    **scenario: Any,
) -> None:
    """Every output and gradient against float64, within the bounds that hold on a GPU."""
    case = Case(
        scenario=Scenario(**{"name": "interpreted", "batch_size": 1, "num_heads": 1, **scenario}),
        options=options,
        K=K,
        V=V,
        dtype=dtype,
        candidate=candidate,
    )
    result = check_case(case, BACKEND, CPU)
    assert not result.failures, result.failures
    # o and S at least, with gradients also those of q, k, v, g, beta
    assert len(result.errors) >= 2 + 5 * (case.scenario.gradients and not case.scenario.step)


# chunks are of 32 tokens in float32, of 64 in float16
@pytest.mark.parametrize("options", option_sets(), ids=describe)
def test_every_option_set(options: Options) -> None:
    check(options, lengths=(40,))


@pytest.mark.parametrize("options", [RDN, RLA, GATED_DELTA_NET, LINEAR_ATTENTION], ids=describe)
def test_float16(options: Options) -> None:
    check(replace(options, normalize_qk=True, scale=0.3), lengths=(70,), dtype=torch.float16)


@pytest.mark.parametrize("candidate", CANDIDATES)
def test_candidates_for_the_tiles(candidate: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With 80 columns of V narrow blocks are several, and the last one is not full."""
    taken: list[int] = []
    run = backward.fused_backward

    def fused_backward(*arguments: Any, tiles: Tiles | None) -> Any:
        assert tiles is not None
        taken.append(candidates(usual_tiles(arguments[0], plan.Switches.of(RDN))).index(tiles))
        return run(*arguments, tiles=tiles)

    monkeypatch.setattr(operator, "fused_backward", fused_backward)
    check(RDN, lengths=(70,), V=80, dtype=torch.float16, candidate=candidate)
    assert taken == [candidate]


@pytest.mark.parametrize(("options", "initial_state"), [*[(o, True) for o in option_sets()], (RDN, False)], ids=str)
def test_whole_chunks(options: Options, initial_state: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their tiles are loaded by descriptor, four blocks of V's columns a head."""
    described: list[list[int]] = []
    describe_tile = Loads._describe

    def recorded(x: torch.Tensor, columns: int, tile: list[int]) -> Any:
        described.append(tile)
        return describe_tile(x, columns, tile)

    monkeypatch.setattr(Loads, "_describe", staticmethod(recorded))
    check(options, lengths=(128,), K=128, V=128, num_heads=2, dtype=torch.float16, initial_state=initial_state)
    assert [64, 128] in described
    assert [64, 32] in described


@pytest.mark.parametrize("options", [RDN, RLA], ids=describe)
def test_whole_chunks_in_slices(options: Options, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (plan, launch, backward):
        monkeypatch.setattr(module, "CHECKPOINT_EVERY", 1)
    monkeypatch.setattr(plan, "SCRATCH_BYTES", 1)
    check(options, lengths=(192,), K=128, V=64, batch_size=2, dtype=torch.float16)


def test_whole_chunks_of_tensors_that_lie_between_addresses() -> None:
    """Descriptors begin at multiples of 16 bytes."""
    x = torch.arange(1 + 2 * 64 * 64, dtype=torch.float16)[1:].view(2, 64, 1, 64)
    described = Loads(True, 64, 32).values(x)
    assert described.base.data_ptr() % 16 == 0
    assert torch.equal(described.base, x)
    assert (described.shape, described.strides, described.block_shape) == ([128, 64], [64, 1], [64, 32])


@pytest.mark.parametrize("options", [RDN, LINEAR_ATTENTION], ids=describe)
def test_packed(options: Options) -> None:
    check(options, lengths=(33, 0, 1, 6))
    check(options, lengths=(33, 0, 1, 6), gradients=False)


def test_sizes_that_are_no_power_of_two() -> None:
    check(RDN, lengths=(10,), K=24, V=40)


def test_one_token_without_a_state() -> None:
    check(RDN, lengths=(1,), initial_state=False)


@pytest.mark.parametrize("values", [{"clipped": "all"}, {"clipped": "none"}, {"decay": "1e-4"}], ids=str)
def test_values(values: dict[str, str]) -> None:
    check(RDN, lengths=(40,), **values)


def test_gates_of_a_ragged_tail() -> None:
    """The last row's share is 1 whatever the gates: in their sums it would cancel, and leave its rounding."""
    scenario = Scenario(name="tail", lengths=(70,), batch_size=1, num_heads=1, decay="1e-4")
    result = check_case(Case(scenario=scenario, options=RDN, K=16, V=16, dtype=torch.float32), BACKEND, CPU)
    assert result.errors["dg"] < 1e-4


def test_gates_below_the_rounding_of_the_rest() -> None:
    """After strong decays next to nothing of the keys' gradients concerns the gates."""
    scenario = Scenario(name="far below", lengths=(70,), batch_size=1, num_heads=1, decay="1e-4")
    result = check_case(Case(scenario=scenario, options=RDN, K=16, V=16, dtype=torch.float16), BACKEND, CPU)
    assert result.errors["dg"] < 1e-3


@pytest.mark.parametrize("scale", [None, -0.3])
@pytest.mark.parametrize("options", [RDN, GATED_DELTA_NET, LINEAR_ATTENTION], ids=describe)
def test_initial_states_after_strong_decays(options: Options, scale: float | None) -> None:
    """What reaches them is smaller than float16's normal numbers."""
    scenario = Scenario(name="small", lengths=(130,), batch_size=1, num_heads=1, decay="1e-4")
    options = replace(options, normalize_qk=True, scale=scale)
    case = Case(scenario=scenario, options=options, K=32, V=32, dtype=torch.float16)
    result = check_case(case, BACKEND, CPU)
    assert not result.failures, result.failures
    assert max(result.errors["dS0"], result.errors.get("dR0", 0.0)) < 1e-3


def test_absent_gates_and_near_collinear_keys() -> None:
    check(RDN, lengths=(40,), decay="none", beta="none")
    check(RDN, lengths=(40,), collinear=True, beta="near 1")


@pytest.mark.parametrize("lengths", [(100,), (70, 33)], ids=str)
def test_many_checkpoints_and_slices(monkeypatch: pytest.MonkeyPatch, lengths: tuple[int, ...]) -> None:
    """What otherwise takes thousands of tokens: states stored in between, and a backward pass in pieces."""
    for module in (plan, launch, backward):
        monkeypatch.setattr(module, "CHECKPOINT_EVERY", 1)
    monkeypatch.setattr(plan, "SCRATCH_BYTES", 1)
    check(RDN, lengths=lengths)


@pytest.fixture
def cut(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cut]:
    """Cuts what is otherwise too short for it, and says into how many segments of how many chunks that was."""
    taken: list[tuple[int, int]] = []
    segments = plan.Chunking.segments

    def recorded(*arguments: Any) -> tuple[int, int]:
        taken.append(segments(*arguments))
        return taken[-1]

    def cut(count: int, *, every: int = 1) -> list[tuple[int, int]]:
        for module in (plan, launch, backward, tiles):
            monkeypatch.setattr(module, "CHECKPOINT_EVERY", every)
        monkeypatch.setattr(tiles, "may_cut", lambda *_, **__: True)
        monkeypatch.setattr(tiles, "choose_segments", lambda *_: count)
        monkeypatch.setattr(plan.Chunking, "segments", recorded)
        return taken

    yield cut
    assert max(count for count, _ in taken) > 1


@pytest.mark.parametrize("options", option_sets(), ids=describe)
def test_segments(cut: Cut, options: Options) -> None:
    """Of 32, 32 and 1 tokens."""
    cut(3)
    check(options, lengths=(65,))


@pytest.mark.parametrize("options", [RDN, LINEAR_ATTENTION], ids=describe)
def test_segments_of_whole_chunks(cut: Cut, options: Options) -> None:
    """What a segment does is found by pointer, the pass itself by descriptor."""
    cut(3)
    check(options, lengths=(192,), K=128, V=64, num_heads=2, dtype=torch.float16)


@pytest.mark.parametrize("options", [RDN, LINEAR_ATTENTION], ids=describe)
def test_segments_without_a_state(cut: Cut, options: Options) -> None:
    cut(2)
    check(options, lengths=(40,), initial_state=False)
    check(options, lengths=(40,), initial_state=False, gradients=False)


@pytest.mark.parametrize("options", [RDN, RLA], ids=describe)
@pytest.mark.parametrize("decay", ["1e-4", "1"])
def test_segments_after_strong_and_no_decay(cut: Cut, options: Options, decay: str) -> None:
    cut(2)
    check(options, lengths=(40,), decay=decay)


@pytest.mark.parametrize("options", [RDN, RLA], ids=describe)
def test_segments_in_float16(cut: Cut, options: Options) -> None:
    cut(2)
    check(replace(options, normalize_qk=True, scale=0.3), lengths=(70,), dtype=torch.float16)


def test_segments_of_sizes_that_are_no_power_of_two(cut: Cut) -> None:
    cut(4)
    check(GATED_DELTA_NET, lengths=(100,), K=24, V=40)


def test_segments_in_slices(cut: Cut, monkeypatch: pytest.MonkeyPatch) -> None:
    """Forward 7 chunks, with a checkpoint inside the first segment; backward 3 of them and then 4."""
    taken = cut(2, every=2)
    monkeypatch.setattr(plan, "SCRATCH_BYTES", 250_000)
    check(GATED_DELTA_NET, lengths=(200,), batch_size=2, num_heads=2)
    assert taken == [(2, 4), (2, 2), (2, 2)]


@pytest.mark.parametrize("normalize_qk", [False, True])
@pytest.mark.parametrize("options", option_sets(), ids=describe)
def test_step(options: Options, normalize_qk: bool) -> None:
    options = replace(options, normalize_qk=normalize_qk)
    check(options, lengths=(1,), step=True, K=24, V=40)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize(("K", "V"), [(1, 3), (128, 17), (256, 256)])
def test_step_of_every_size_and_dtype(K: int, V: int, dtype: torch.dtype) -> None:
    check(RDN, lengths=(1,), step=True, K=K, V=V, dtype=dtype)
    check(RLA, lengths=(1,), step=True, K=K, V=V, dtype=dtype, decay="none", beta="none")


@torch.no_grad()
def test_step_with_strided_inputs_and_states() -> None:
    case = Case(scenario=Scenario(name="strided", lengths=(1,)), options=RDN, K=16, V=24, dtype=torch.float32)
    token = one_token(make_problem(case, CPU))
    o, state = triton_step(token, RDN, inplace=False)

    def strided(x: torch.Tensor) -> torch.Tensor:
        return x.transpose(0, 1).contiguous().transpose(0, 1)

    assert token.initial_state is not None
    S, R = token.initial_state
    given = type(state)(S.mT.contiguous().mT, strided(R))
    other = replace(
        token,
        q=token.q.mT.contiguous().mT,
        k=strided(token.k),
        v=strided(token.v),
        g=strided(token.g),
        beta=strided(token.beta),
        gamma=strided(token.gamma),
        initial_state=given,
    )
    assert not any(x.is_contiguous() for x in (other.q, other.k, other.v, other.g, *given))
    same_o, same = triton_step(other, RDN, inplace=True)
    assert same is given
    assert torch.equal(same_o, o)
    assert torch.equal(given.S, state.S)
    assert torch.equal(given.R, state.R)


@torch.no_grad()
def test_step_keeps_a_nan() -> None:
    """A clip must not make a number of what is none."""
    case = Case(scenario=Scenario(name="nan", lengths=(1,)), options=RDN, K=16, V=16, dtype=torch.float32)
    token = one_token(make_problem(case, CPU))
    token.v[0, 0, 3] = torch.nan
    o, state = triton_step(token, RDN, inplace=False)
    expected = torch.zeros_like(o, dtype=torch.bool)
    expected[0, 0, 3] = True
    assert torch.equal(o.isnan(), expected)
    assert torch.equal(state.R.isnan().any(-2), expected)


def test_compiled_without_a_graph_break() -> None:
    """The operator's fakes have the shapes of what it computes, and its gradients come out alike."""
    scenario = Scenario(name="compiled", lengths=(40,), batch_size=1, num_heads=1)
    problem = make_problem(Case(scenario=scenario, options=RDN, K=16, V=16, dtype=torch.float32), CPU)
    leaves = named_leaves(problem)

    def attend(*tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        q, k, v, g, beta, gamma, S, R = tensors
        x = Inputs(q=q, k=k, v=v, g=g, beta=beta, gamma=gamma, initial_state=State(S, R))
        o, last = BACKEND.compute(x, RDN)
        assert last.R is not None
        return o, last.S, last.R

    def results(function: Any) -> list[torch.Tensor]:
        outputs = function(*leaves.values())
        return [*outputs, *torch.autograd.grad(sum(x.square().sum() for x in outputs), list(leaves.values()))]

    compiled = torch.compile(attend, fullgraph=True, backend="aot_eager")
    for got, expected in zip(results(compiled), results(attend), strict=True):
        assert torch.equal(got, expected)
