"""The fused convolution on a GPU."""

from __future__ import annotations

import pytest
import torch

from rla_exp.kernels import convolution_check
from rla_exp.kernels.convolution import short_convolution
from rla_exp.kernels.convolution_check import BOUNDS, convolution_checks, measure_errors

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU"),
]
CUDA = torch.device("cuda", 0)


@pytest.mark.parametrize("packed", [False, True], ids=["rows", "packed"])
@pytest.mark.parametrize("dtype", list(BOUNDS))
def test_within_the_bounds(dtype: torch.dtype, packed: bool) -> None:
    errors = measure_errors(dtype, 4, packed=packed, device=CUDA)
    assert len(errors) == 6
    assert max(errors.values()) < BOUNDS[dtype], errors


def test_is_used_after_its_check_and_differs_by_rounding_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convolution_check, "_outcomes", {})
    x = torch.randn(2, 300, 96, device=CUDA, dtype=torch.bfloat16)
    weight = torch.randn(96, 4, device=CUDA)
    y = short_convolution(x, weight, silu=True)
    (outcome,) = convolution_checks()
    assert outcome["kernel"] == "short_convolution"
    assert not outcome["failures"]
    assert y.dtype == torch.bfloat16
    expected = short_convolution(x.cpu().double(), weight.cpu().double(), silu=True)
    assert (y.cpu().double() - expected).norm() < 4e-3 * expected.norm()


def test_launches_give_equal_bits() -> None:
    x = torch.randn(4, 1000, 200, device=CUDA, dtype=torch.bfloat16, requires_grad=True)
    weight = torch.randn(200, 4, device=CUDA, requires_grad=True)

    def run() -> tuple[torch.Tensor, ...]:
        y = short_convolution(x, weight, silu=True)
        return y, *torch.autograd.grad(y.float().square().sum(), (x, weight))

    first = run()
    for _ in range(5):
        assert all(torch.equal(a, b) for a, b in zip(run(), first, strict=True))


def test_a_failed_check_falls_back_with_one_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convolution_check, "_outcomes", {})
    monkeypatch.setattr(convolution_check, "measure_errors", lambda *_, **__: {"y": float("nan")})
    x = torch.randn(1, 50, 32, device=CUDA)
    weight = torch.randn(32, 4, device=CUDA)
    with pytest.warns(RuntimeWarning, match="failed its self-check: y nan"):
        y = short_convolution(x, weight)
    assert torch.equal(short_convolution(x, weight), y)


def test_transposed_weights_are_read_right() -> None:
    x = torch.randn(2, 50, 64, device=CUDA)
    weight = torch.randn(4, 64, device=CUDA).T
    torch.testing.assert_close(short_convolution(x, weight), short_convolution(x, weight, fused=False))
