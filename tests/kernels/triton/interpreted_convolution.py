"""The convolution's kernels in Triton's interpreter. Not collected by itself: test_interpreter.py starts it."""

from __future__ import annotations

from contextlib import AbstractContextManager

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from rla_exp.kernels import convolution_check
from rla_exp.kernels.convolution_check import BOUNDS, convolution_checks, is_right, measure_errors

CPU = torch.device("cpu")


@pytest.mark.parametrize("packed", [False, True], ids=["rows", "packed"])
@pytest.mark.parametrize("width", [1, 3, 4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_convolution(dtype: torch.dtype, width: int, packed: bool) -> None:
    errors = measure_errors(dtype, width, packed=packed, device=CPU)
    assert set(errors) == {"y", "dx", "dweight", "y silu", "dx silu", "dweight silu"}
    assert max(errors.values()) < BOUNDS[dtype], errors


@pytest.fixture(autouse=True)
def _a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Comparisons on "cuda" are made in the interpreter, and none is known yet."""
    monkeypatch.setattr(convolution_check, "_outcomes", {})
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "A GPU")
    measure = convolution_check.measure_errors
    monkeypatch.setattr(
        convolution_check, "measure_errors", lambda *args, **kwargs: measure(*args, **{**kwargs, "device": CPU})
    )


def check() -> bool:
    return is_right(torch.float32, torch.float32, 4, packed=False, device_index=0)


@pytest.mark.parametrize(
    "around",
    [torch.inference_mode(), torch.no_grad(), torch.autocast("cpu", torch.bfloat16)],
    ids=lambda x: type(x).__name__,
)
def test_the_check_minds_nothing_of_its_caller(around: AbstractContextManager[object]) -> None:
    with around:
        assert check()
    (outcome,) = convolution_checks()
    assert len(outcome["errors"]) == 6
    assert not outcome["failures"]


def test_the_check_inside_activation_checkpointing() -> None:
    def run(x: torch.Tensor) -> torch.Tensor:
        assert check()
        return x.sin().cos()

    x = torch.ones(3, requires_grad=True)
    checkpoint(run, x, use_reentrant=False).sum().backward()
    torch.testing.assert_close(x.grad, -torch.sin(torch.sin(x)).detach() * torch.cos(x).detach())


def test_whatever_the_check_raises_is_a_failure_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> dict[str, float]:
        raise RuntimeError("no compiler here\nmore")

    monkeypatch.setattr(convolution_check, "measure_errors", fails)
    with pytest.warns(RuntimeWarning, match="failed its self-check: RuntimeError: no compiler here"):
        assert not check()
    assert not check()
