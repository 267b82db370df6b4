"""The kernels that carry both states on Hopper: where they run, that they fit, that they compute the same."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor

from rla_exp.kernels.options import Options
from rla_exp.kernels.triton.tiles import Gpu, Tiles, candidates, choose_tiles, may_describe
from rla_exp.kernels.verify.cases import GATED_DELTA_NET, LINEAR_ATTENTION, RDN, RLA
from rla_exp.kernels.verify.problem import Case, Scenario, describe, dtype_name, make_problem

if TYPE_CHECKING:
    from conftest import Chip

VALUE = Options(rule="delta", residual="value")
MODELS = (RDN, RLA, GATED_DELTA_NET, LINEAR_ATTENTION, VALUE)
HOPPER = Gpu(132, 227 * 1024, must_pipeline=False, has_descriptors=True, runs_gluon=True)
# bytes of a thread's registers that do not fit; inverses spills most where keys are normalized
MAX_SPILLED_BYTES = {"inverses": 208, "fused_forward": 160, "fused_reverse": 160, "fused_gradients": 384}
VARIANTS = [
    *((options, torch.bfloat16, keep, False) for options, keep in product(MODELS, (False, True))),
    (RDN, torch.float16, True, True),
    (replace(RLA, output="sum", decayed_prediction=True), torch.bfloat16, True, True),
    (replace(RDN, normalize_qk=True), torch.bfloat16, True, True),
    (Options(rule="additive", residual="value"), torch.bfloat16, True, False),
    # between two numbers of the dtype
    (replace(RDN, clip=1.1), torch.bfloat16, True, True),
    (replace(RLA, clip=1.1), torch.bfloat16, True, True),
    (replace(RLA, clip=None), torch.bfloat16, True, True),
]


def name_of(value: object) -> str:
    if isinstance(value, Options):
        return describe(value)
    return dtype_name(value) if isinstance(value, torch.dtype) else str(value)


@pytest.mark.slow
@pytest.mark.parametrize(("options", "dtype", "keep", "initial_state"), VARIANTS, ids=name_of)
def test_fits(chip: Chip, options: Options, dtype: torch.dtype, keep: bool, initial_state: bool) -> None:
    """Into the shared memory and nearly the registers, whatever is left out of the kernel or comes in."""
    chip.launch_sequence(options, 128, 128, dtype, keep=keep, backward=False, initial_state=initial_state)
    found = chip.usages()
    assert {usage.kernel for usage in found} == {"rows", "fused_forward"} | (
        {"inverses"} if options.is_delta else set()
    )
    chip.assert_fits(found, MAX_SPILLED_BYTES)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "dtype", "initial_state"),
    [(options, dtype, initial_state) for options, dtype, keep, initial_state in VARIANTS if keep],
    ids=name_of,
)
def test_the_backward_pass_fits(chip: Chip, options: Options, dtype: torch.dtype, initial_state: bool) -> None:
    chip.launch_sequence(options, 128, 128, dtype, initial_state=initial_state)
    kernels = ("fused_reverse_kernel", "fused_gradients_kernel")
    chip.launches = [launch for launch in chip.launches if launch.kernel.fn.__name__ in kernels]
    found = chip.usages()
    # gradients through each state
    assert len(found) == 2 + options.has_residual
    chip.assert_fits(found, MAX_SPILLED_BYTES)


def tiles_of(
    num_tokens: int = 2048,
    num_heads: int = 64,
    *,
    dtype: torch.dtype = torch.bfloat16,
    K: int = 128,
    V: int = 128,
    delta: bool = True,
    gpu: Gpu = HOPPER,
) -> Tiles:
    return choose_tiles(
        dtype,
        K,
        V,
        delta=delta,
        predicted=True,
        num_heads=num_heads,
        num_tokens=num_tokens,
        describable=may_describe(dtype, K=K, V=V, num_tokens=num_tokens),
        gpu=gpu,
    )


def test_whole_chunks_go_in_one_kernel() -> None:
    for dtype, V, delta in product((torch.bfloat16, torch.float16), (64, 128, 256), (False, True)):
        # few heads, too
        for num_tokens, num_heads in ((2048, 64), (2048, 1), (64, 6), (131072, 64)):
            tiles = tiles_of(num_tokens, num_heads, dtype=dtype, V=V, delta=delta)
            assert tiles.forward_in_one
            assert tiles.reverse_in_one
            assert tiles.gradients_in_one == (V < 256)
            for other in candidates(tiles):
                assert other.forward_in_one
                assert other.reverse_in_one
                assert other.gradients_in_one == tiles.gradients_in_one
                assert (other.forward, other.reverse_S) == (tiles.forward, tiles.reverse_S)


def test_other_calls_have_a_pass_for_each_state() -> None:
    others = {
        "float32": tiles_of(dtype=torch.float32),
        "packed": tiles_of(num_tokens=0),
        "no whole chunks": tiles_of(num_tokens=2000),
        "less than one": tiles_of(num_tokens=32),
        "K of 64": tiles_of(K=64),
        "K of 256": tiles_of(K=256),
        "V of 32": tiles_of(V=32),
        "V of 512": tiles_of(V=512),
        "segments": tiles_of(num_tokens=8192, num_heads=4),
        "an older assembler": tiles_of(gpu=replace(HOPPER, runs_gluon=False)),
        "no descriptors": tiles_of(gpu=replace(HOPPER, has_descriptors=False)),
    }
    assert others["segments"].segments > 1
    assert others["segments"].reverse_segments > 1
    assert not [name for name, tiles in others.items() if tiles.forward_in_one or tiles.reverse_in_one]
    # chunk by chunk, however a sequence is cut
    assert [name for name, tiles in others.items() if tiles.gradients_in_one] == ["segments"]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("initial_state", [False, True], ids=["from zero", "from a state"])
@pytest.mark.parametrize("V", [64, 128, 256])
@pytest.mark.parametrize("options", MODELS, ids=describe)
def test_the_same_as_a_pass_for_each_state(options: Options, V: int, initial_state: bool) -> None:
    """But for rounding, and each time with the same bits."""
    from rla_exp.kernels.triton.call import usual_tiles
    from rla_exp.kernels.triton.launch import fused_forward
    from rla_exp.kernels.triton.operator import operands
    from rla_exp.kernels.triton.plan import Switches

    scenario = Scenario(name="whole", lengths=(320,), num_heads=3, initial_state=initial_state)
    case = Case(scenario=scenario, options=options, K=128, V=V, dtype=torch.bfloat16)
    inputs = make_problem(case, torch.device("cuda", 0))
    x = operands(inputs, options)
    S, R = inputs.initial_state or (None, None)
    usual = usual_tiles(x, Switches.of(options))
    if not usual.forward_in_one:
        pytest.skip("this GPU has a pass for each state")

    @torch.no_grad()
    def run(tiles: Tiles, *, keep: bool) -> list[Tensor]:
        o, last_S, last_R, saved = fused_forward(x, options, S, R, keep=keep, tiles=tiles)
        assert (saved.r is not None) == (keep and options.residual == "fit")
        found = (o, last_S, last_R, *saved)
        return [y.double() for y in found if y is not None]

    for keep in (False, True):
        got = run(usual, keep=keep)
        expected = run(replace(usual, forward_in_one=False), keep=keep)
        for ours, reference in zip(got, expected, strict=True):
            assert (ours - reference).norm() <= 5e-3 * reference.norm()
        for _ in range(4):
            again = run(usual, keep=keep)
            assert all(torch.equal(one, other) for one, other in zip(again, got, strict=True))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("V", [64, 128, 256])
@pytest.mark.parametrize("options", MODELS, ids=describe)
def test_the_same_backward_as_a_pass_for_each_state(options: Options, V: int) -> None:
    """But for rounding, and each time with the same bits."""
    from rla_exp.kernels.triton.backward import fused_backward
    from rla_exp.kernels.triton.call import usual_tiles
    from rla_exp.kernels.triton.launch import fused_forward
    from rla_exp.kernels.triton.operator import operands
    from rla_exp.kernels.triton.plan import Switches

    scenario = Scenario(name="whole", lengths=(320,), num_heads=3, initial_state=True)
    case = Case(scenario=scenario, options=options, K=128, V=V, dtype=torch.bfloat16)
    inputs = make_problem(case, torch.device("cuda", 0))
    x = operands(inputs, options)
    usual = usual_tiles(x, Switches.of(options))
    if not usual.reverse_in_one:
        pytest.skip("this GPU has a pass for each state")

    @torch.no_grad()
    def run(tiles: Tiles) -> list[Tensor]:
        o, dS, dR, saved = fused_forward(x, options, *(inputs.initial_state or (None, None)), keep=True)
        found = fused_backward(x, options, saved, o, dS, dR, tiles=tiles)
        return [y.double() for y in found if y is not None]

    got = run(usual)
    others = (
        replace(usual, reverse_in_one=False),
        replace(usual, gradients_in_one=False),
        replace(usual, reverse_in_one=False, gradients_in_one=False),
    )
    for other in others:
        for ours, reference in zip(got, run(other), strict=True):
            assert (ours - reference).norm() <= 8e-3 * reference.norm()
    for _ in range(4):
        assert all(torch.equal(one, other) for one, other in zip(run(usual), got, strict=True))
