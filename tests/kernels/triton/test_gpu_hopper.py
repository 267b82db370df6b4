"""The kernel for Hopper on a GPU, against the passes that it stands for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from rla_exp.kernels.options import Options
from rla_exp.kernels.triton.call import Operands, usual_tiles
from rla_exp.kernels.triton.launch import fused_forward
from rla_exp.kernels.triton.operator import operands
from rla_exp.kernels.triton.plan import CHECKPOINT_EVERY, Switches
from rla_exp.kernels.triton.tiles import Tiles
from rla_exp.kernels.verify.cases import GATED_DELTA_NET, LINEAR_ATTENTION, RDN, RLA
from rla_exp.kernels.verify.problem import Case, Scenario, describe, dtype_name, make_problem

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU"),
]
BF16, FP16 = torch.bfloat16, torch.float16
RDN_VALUE, RLA_VALUE = (replace(options, residual="value") for options in (RDN, RLA))
MODELS = [RDN, RLA, GATED_DELTA_NET, LINEAR_ATTENTION, RDN_VALUE, RLA_VALUE]
# the remaining switches, and a clip that is no number of 16 bits
OTHERWISE = [
    replace(RDN, normalize_qk=True, output="sum", decayed_prediction=True, clip=0.3),
    replace(RLA, normalize_qk=True, output="sum", clip=None),
]
DEVICE = torch.device("cuda", 0)
LAUNCHES = 20
MAX_ERROR = 5e-3
"""Relative, root mean square: two or three roundings to bfloat16, each of 1.7e-3 at most."""


@pytest.fixture(autouse=True)
def poisoned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is allocated for a kernel holds NaN until the kernel writes it."""
    empty = torch.Tensor.new_empty

    def new_empty(self: Tensor, *size: Any, **more: Any) -> Tensor:
        return empty(self, *size, **more).fill_(torch.nan)

    monkeypatch.setattr(torch.Tensor, "new_empty", new_empty)


def results(
    x: Operands, options: Options, states: tuple[Tensor | None, Tensor | None], tiles: Tiles, *, keep: bool = True
) -> dict[str, Tensor]:
    """All that is written, and has to be."""
    o, S, R, saved = fused_forward(x, options, *states, keep=keep, tiles=tiles)
    found = {"o": o, "S": S, "R": R, "r": saved.r}
    rows = list(checkpoints(x.q.shape[0], x.q.shape[1] // tiles.C))
    found |= {f"before {name}": None if y is None else y[rows] for name, y in (("S", saved.S), ("R", saved.R))}
    written = {name: y for name, y in found.items() if y is not None}
    expected = {"o", "S"} | ({"R"} if options.has_residual else set())
    if keep:
        expected |= {f"before {name}" for name in expected - {"o"}} | ({"r"} if options.residual == "fit" else set())
    assert written.keys() == expected
    return written


def checkpoints(num_sequences: int, chunks: int) -> Iterator[int]:
    """Their rows: a sequence's begin where those of the chunks before it end, and one further each."""
    for n in range(num_sequences):
        first = n * chunks // CHECKPOINT_EVERY + n
        yield from range(first, first + -(-chunks // CHECKPOINT_EVERY))


def assert_like_two_passes(
    options: Options,
    *,
    V: int = 128,
    dtype: torch.dtype = BF16,
    keep: bool = True,
    launches: int = 1,
    segments: int = 1,
    **scenario: Any,
) -> None:
    """Within rounding, and the same bits each time."""
    shape = {"name": "hopper", "lengths": (1088,), "batch_size": 3, **scenario}
    case = Case(scenario=Scenario(**shape), options=options, K=128, V=V, dtype=dtype)
    with torch.no_grad():
        inputs = make_problem(case, DEVICE)
        x = operands(inputs, options)
        states = inputs.initial_state or (None, None)
        usual = usual_tiles(x, Switches.of(options))
        if not usual.forward_on_hopper:
            pytest.skip("this GPU, or its assembler, does not take the kernel for Hopper")
        assert usual.segments == segments
        got = results(x, options, states, usual, keep=keep)
        expected = results(x, options, states, replace(usual, forward_on_hopper=False), keep=keep)
        errors = {name: relative_error(y, expected[name]) for name, y in got.items()}
        # a NaN is not below the bound either
        wrong = {name: error for name, error in errors.items() if not error <= MAX_ERROR}
        assert not wrong, f"beyond {MAX_ERROR}: {wrong}"
        for _ in range(launches - 1):
            again = results(x, options, states, usual, keep=keep)
            differ = [name for name, y in again.items() if not torch.equal(y, got[name])]
            assert not differ


def relative_error(x: Tensor, reference: Tensor) -> float:
    assert x.shape == reference.shape
    assert x.dtype == reference.dtype
    assert reference.isfinite().all()
    error, scale = (x.double() - reference.double()).norm(), reference.double().norm()
    # before the first chunk there may be zeros
    return float(error / scale) if scale > 0 else float(error)


@pytest.mark.parametrize("initial_state", [True, False], ids=["state", "zeros"])
@pytest.mark.parametrize("dtype", [BF16, FP16], ids=dtype_name)
@pytest.mark.parametrize("options", MODELS, ids=describe)
def test_like_two_passes(options: Options, dtype: torch.dtype, initial_state: bool) -> None:
    assert_like_two_passes(options, dtype=dtype, initial_state=initial_state, launches=LAUNCHES)


@pytest.mark.parametrize("V", [64, 256])
@pytest.mark.parametrize("options", MODELS, ids=describe)
def test_other_heads(options: Options, V: int) -> None:
    assert_like_two_passes(options, V=V, launches=LAUNCHES)


@pytest.mark.parametrize("options", OTHERWISE, ids=describe)
def test_the_other_switches(options: Options) -> None:
    assert_like_two_passes(options, launches=LAUNCHES)
    assert_like_two_passes(options, dtype=FP16, initial_state=False)


@pytest.mark.parametrize("clipped", ["all", "none"])
@pytest.mark.parametrize("dtype", [BF16, FP16], ids=dtype_name)
@pytest.mark.parametrize("options", [RDN, RLA], ids=describe)
def test_all_and_none_clipped(options: Options, dtype: torch.dtype, clipped: str) -> None:
    for initial_state in (True, False):
        assert_like_two_passes(options, dtype=dtype, clipped=clipped, initial_state=initial_state)


@pytest.mark.parametrize("initial_state", [True, False], ids=["state", "zeros"])
@pytest.mark.parametrize("options", MODELS, ids=describe)
def test_nothing_is_kept(options: Options, initial_state: bool) -> None:
    """Without gradients, a kernel of its own."""
    assert_like_two_passes(options, keep=False, initial_state=initial_state, launches=LAUNCHES)


@pytest.mark.parametrize("options", MODELS, ids=describe)
def test_lengths(options: Options) -> None:
    """Of fewer chunks than are loaded ahead, of as many, up to a checkpoint and beyond; sequences of one head and of
    more than a GPU holds at a time."""
    for chunks in (1, 2, 3, 4, 5, 6, 7, 16, 33):
        assert_like_two_passes(options, lengths=(64 * chunks,))
    assert_like_two_passes(options, lengths=(448,), batch_size=1, num_heads=1)
    assert_like_two_passes(options, lengths=(448,), batch_size=25, num_heads=6)


@pytest.mark.parametrize("dtype", [BF16, FP16], ids=dtype_name)
@pytest.mark.parametrize("options", [*MODELS, *OTHERWISE], ids=describe)
def test_segments(options: Options, dtype: torch.dtype) -> None:
    """Of few heads: a pass for each state, from what the segments before do to it; the last one is short."""
    cut = {"lengths": (4224,), "num_heads": 1, "dtype": dtype, "segments": 5}
    for initial_state, keep in product((True, False), repeat=2):
        assert_like_two_passes(
            options, batch_size=1, initial_state=initial_state, keep=keep, launches=LAUNCHES // 4, **cut
        )
    assert_like_two_passes(options, batch_size=3, V=64, **cut)
    assert_like_two_passes(options, batch_size=1, V=256, **cut)
