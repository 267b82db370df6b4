"""The backward pass's kernels for Hopper on a GPU, against the passes that they stand for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from rla_exp.kernels.options import Options
from rla_exp.kernels.triton import plan
from rla_exp.kernels.triton.backward import fused_backward
from rla_exp.kernels.triton.call import Gradients, usual_tiles
from rla_exp.kernels.triton.launch import fused_forward
from rla_exp.kernels.triton.operator import operands
from rla_exp.kernels.triton.plan import CHECKPOINT_EVERY, Switches
from rla_exp.kernels.verify.cases import GATED_DELTA_NET, LINEAR_ATTENTION, RDN, RLA
from rla_exp.kernels.verify.problem import Case, Scenario, describe, dtype_name, make_problem

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU"),
]
BF16, FP16 = torch.bfloat16, torch.float16
RDN_VALUE, RLA_VALUE = (replace(options, residual="value") for options in (RDN, RLA))
MODELS = [RDN, RLA, GATED_DELTA_NET, LINEAR_ATTENTION, RDN_VALUE, RLA_VALUE]
OTHERWISE = [
    replace(RDN, normalize_qk=True, output="sum", decayed_prediction=True, clip=0.3),
    replace(RLA, normalize_qk=True, output="sum", clip=None),
]
LAUNCHES = 20
MAX_ERROR = 8e-3
"""Relative, root mean square, of gradients in 16 bits."""


@pytest.fixture(autouse=True)
def poisoned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is allocated for a kernel holds NaN until the kernel writes it."""
    empty, empty_like = torch.Tensor.new_empty, torch.empty_like

    def new_empty(self: Tensor, *size: Any, **more: Any) -> Tensor:
        return empty(self, *size, **more).fill_(torch.nan)

    def new_empty_like(x: Tensor, **more: Any) -> Tensor:
        return empty_like(x, **more).fill_(torch.nan)

    monkeypatch.setattr(torch.Tensor, "new_empty", new_empty)
    monkeypatch.setattr(torch, "empty_like", new_empty_like)


def assert_like_a_pass_for_each_state(
    options: Options, *, V: int = 128, dtype: torch.dtype = BF16, launches: int = 1, **scenario: Any
) -> None:
    """Within rounding, and the same bits each time."""
    shape = {"name": "hopper", "lengths": (1088,), "batch_size": 3, "initial_state": True, **scenario}
    case = Case(scenario=Scenario(**shape), options=options, K=128, V=V, dtype=dtype)
    with torch.no_grad():
        inputs = make_problem(case, torch.device("cuda", 0))
        x = operands(inputs, options)
        usual = usual_tiles(x, Switches.of(options))
        if not usual.reverse_on_hopper:
            pytest.skip("this GPU, or its assembler, does not take the kernels for Hopper")
        # upstream gradients that differ from one another: what the forward pass returns
        o, dS, dR, saved = fused_forward(x, options, *(inputs.initial_state or (None, None)), keep=True)

        def run(**changes: bool) -> Gradients:
            return fused_backward(x, options, saved, o, dS, dR, tiles=replace(usual, **changes))

        got = run()
        expected = run(reverse_on_hopper=False, gradients_on_hopper=False)
        for found in (got, run(reverse_on_hopper=False), run(gradients_on_hopper=False)):
            wrong = {
                name: error
                for name, y in found._asdict().items()
                # a NaN is not below the bound either
                if y is not None and not (error := relative_error(y, getattr(expected, name))) <= MAX_ERROR
            }
            assert not wrong, f"beyond {MAX_ERROR}: {wrong}"
        for _ in range(launches - 1):
            again = run()
            assert all(y is None or torch.equal(y, first) for y, first in zip(again, got, strict=True))


def relative_error(x: Tensor, reference: Tensor) -> float:
    assert x.shape == reference.shape
    assert x.dtype == reference.dtype
    assert reference.isfinite().all()
    return float((x.double() - reference.double()).norm() / reference.double().norm())


@pytest.mark.parametrize("dtype", [BF16, FP16], ids=dtype_name)
@pytest.mark.parametrize("options", MODELS, ids=describe)
def test_like_a_pass_for_each_state(options: Options, dtype: torch.dtype) -> None:
    assert_like_a_pass_for_each_state(options, dtype=dtype, launches=LAUNCHES)


@pytest.mark.parametrize("V", [64, 256])
@pytest.mark.parametrize("options", MODELS, ids=describe)
def test_other_heads(options: Options, V: int) -> None:
    assert_like_a_pass_for_each_state(options, V=V, launches=LAUNCHES)


@pytest.mark.parametrize("options", OTHERWISE, ids=describe)
def test_the_other_switches(options: Options) -> None:
    assert_like_a_pass_for_each_state(options, launches=LAUNCHES)
    assert_like_a_pass_for_each_state(options, dtype=FP16)


@pytest.mark.parametrize("options", [RDN, RLA], ids=describe)
def test_all_clipped(options: Options) -> None:
    assert_like_a_pass_for_each_state(options, clipped="all")


@pytest.mark.parametrize("options", MODELS, ids=describe)
def test_lengths(options: Options) -> None:
    """Fewer chunks than are loaded ahead, as many, and more; one program for all chunks, and many chunks a program."""
    for chunks in (1, 2, 3, 4, 5, 17):
        assert_like_a_pass_for_each_state(options, lengths=(64 * chunks,))
    assert_like_a_pass_for_each_state(options, lengths=(64,), batch_size=1, num_heads=1)
    assert_like_a_pass_for_each_state(options, lengths=(448,), batch_size=25, num_heads=6)


@pytest.mark.parametrize("options", MODELS, ids=describe)
def test_in_slices(options: Options, monkeypatch: pytest.MonkeyPatch) -> None:
    """The states' gradients pass from one slice to the next, and scratch is used again."""
    monkeypatch.setattr(plan, "SCRATCH_BYTES", 2**20)
    assert plan.equal_chunking(3, 64 * 40, 64).slices(2**20) == [(32, 8), (CHECKPOINT_EVERY, 16), (0, 16)]
    assert_like_a_pass_for_each_state(options, lengths=(64 * 40,))
