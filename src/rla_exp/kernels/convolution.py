"""The short depthwise causal convolution in front of q, k and v: in PyTorch, and fused where a GPU can."""

from __future__ import annotations

import warnings
from functools import cache
from importlib.util import find_spec
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

# of the root mean square of what PyTorch computes in float64
BOUNDS = {torch.float32: 1e-5, torch.bfloat16: 8e-3, torch.float16: 2e-3}
MIN_CAPABILITY = (8, 0)


def short_convolution(x: Tensor, weight: Tensor, *, positions: Tensor | None = None, silu: bool = False) -> Tensor:
    """y_t = f(sum_j weight[:, W - 1 - j] * x_{t-j}), over tokens of the same document only.

    Args:
        x: [B, T, C].
        weight: [C, W].
        positions: [T] int64, of each token the number of tokens before it in its document, where x is one packed row;
            None: every row is one document.
        silu: f is SiLU; otherwise the identity.

    Returns:
        [B, T, C] in x's dtype. On a GPU that passed the comparison with the definition, one kernel; elsewhere
        PyTorch's operations, which autocast may give another dtype.
    """
    if x.is_cuda and x.dtype in BOUNDS and _is_right(x.dtype, weight.shape[1], positions is not None, x.device.index):
        from rla_exp.kernels.triton.convolution import short_convolution as fused

        y: Tensor = fused(x.contiguous(), weight, positions, silu)
        return y
    if positions is None:
        y = convolve_rows(x, weight, weight.shape[1] - 1)[:, : x.shape[1]]
    else:
        y = _convolve_packed(x, weight, positions)
    return F.silu(y) if silu else y


def convolve_rows(x: Tensor, weight: Tensor, padding: int) -> Tensor:
    """Of rows [B, T, C] with so many zeros on both sides."""
    # [B, T, C] is a channels-last image of height 1: twice as fast on a CPU as conv1d, which transposes
    image = x.unsqueeze(1).permute(0, 3, 1, 2)
    y = F.conv2d(image, weight[:, None, None, :], padding=(0, padding), groups=weight.shape[0])
    return y.permute(0, 2, 3, 1).squeeze(1)


def _convolve_packed(x: Tensor, weight: Tensor, positions: Tensor) -> Tensor:
    y = x * weight[:, -1]
    for lag in range(1, min(weight.shape[1], x.shape[1])):
        inside = (positions >= lag)[:, None]
        y = y + F.pad(x[:, :-lag], (0, 0, lag, 0)) * inside * weight[:, -1 - lag]
    return y


_outcomes: list[dict[str, Any]] = []


def convolution_checks() -> list[dict[str, Any]]:
    """The comparisons that this process has relied on: what was compared, errors and failures."""
    return [dict(outcome) for outcome in _outcomes]


# torch.compile takes the answer as it is when it traces
@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _is_right(dtype: torch.dtype, width: int, packed: bool, device_index: int) -> bool:
    return _compare(dtype, width, packed, device_index)


@cache
def _compare(dtype: torch.dtype, width: int, packed: bool, device_index: int) -> bool:
    """Whether the kernels agree with the definition in float64, forward and backward; warns where they do not."""
    if find_spec("triton") is None or torch.version.hip:
        return False
    if torch.cuda.get_device_capability(device_index) < MIN_CAPABILITY:
        return False
    # what runs may be a trace, a pass without gradients or under autocast; the comparison is not
    with torch.enable_grad(), torch.autocast("cuda", enabled=False):
        errors = measure_errors(dtype, width, packed=packed, device=torch.device("cuda", device_index))
    failures = [
        f"{name} {error:.2e} > {BOUNDS[dtype]:g}" for name, error in errors.items() if not error < BOUNDS[dtype]
    ]
    _outcomes.append(
        {
            "kernel": "short_convolution",
            "dtype": str(dtype).removeprefix("torch."),
            "width": width,
            "packed": packed,
            "gpu": torch.cuda.get_device_name(device_index),
            "errors": errors,
            "failures": failures,
        }
    )
    if failures:
        reason = "; ".join(failures)
        warnings.warn(
            f"the fused convolution is not used, it failed its self-check: {reason}", RuntimeWarning, stacklevel=2
        )
    return not failures


def measure_errors(dtype: torch.dtype, width: int, *, packed: bool, device: torch.device) -> dict[str, float]:
    """RMS(x - ref) / RMS(ref) of y and of the gradients, with SiLU and without, at odd sizes."""
    from rla_exp.kernels.triton.convolution import short_convolution as fused

    generator = torch.Generator().manual_seed(0)
    B, T, C = (1, 262, 70) if packed else (2, 131, 70)
    positions = torch.cat([torch.arange(n) for n in (1, 2, 130, 129)]) if packed else None
    x = torch.randn(B, T, C, generator=generator).to(dtype)
    weight = torch.randn(C, width, generator=generator)
    dy = torch.randn(B, T, C, generator=generator).to(dtype)
    errors = {}
    for silu in (False, True):
        exact, found = (x.double(), weight.double()), (x.to(device), weight.to(device))
        for pair in (exact, found):
            for leaf in pair:
                leaf.requires_grad_()
        y_exact = short_convolution(*exact, positions=positions, silu=silu)
        y = fused(*found, None if positions is None else positions.to(device), silu)
        expected = [y_exact, *torch.autograd.grad(y_exact, exact, dy.double())]
        computed = [y, *torch.autograd.grad(y, found, dy.to(device))]
        for name, a, b in zip(("y", "dx", "dweight"), computed, expected, strict=True):
            error = (a.detach().double().cpu() - b.detach()).norm() / b.detach().norm()
            errors[f"{name} silu" if silu else name] = float(error)
    return errors
