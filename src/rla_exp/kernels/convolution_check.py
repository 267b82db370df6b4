"""Before the fused convolution is first used, it is compared with PyTorch's in float64 on the GPU at hand.

In this process, unlike the operator's self-check: its kernels have no products of matrices and no shared memory, which
is what compilers were seen to get wrong. But in a thread of its own, for what the caller has on (inference mode,
autocast, activation checkpointing, a trace) belongs to its thread.
"""

from __future__ import annotations

import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

from rla_exp.kernels.selection import missing

# of the root mean square of what PyTorch computes in float64
BOUNDS = {torch.float32: 1e-5, torch.bfloat16: 8e-3, torch.float16: 2e-3}
CHANNELS = (70, 128)
"""Numbers of channels that are compared: what 16 divides compiles to other code."""

_Setting = tuple[torch.dtype, torch.dtype, int, bool, int]
_outcomes: dict[_Setting, dict[str, Any]] = {}
_lock = threading.Lock()


def convolution_checks() -> list[dict[str, Any]]:
    """The comparisons that this process has relied on: what was compared, errors and failures."""
    return [dict(outcome) for outcome in _outcomes.values()]


def is_right(dtype: torch.dtype, weight_dtype: torch.dtype, width: int, *, packed: bool, device_index: int) -> bool:
    """Whether the kernels agree with the definition, forward and backward; warns once where they do not."""
    if missing(device_index) is not None:
        return False
    setting = (dtype, weight_dtype, width, packed, device_index)
    with _lock:
        if setting not in _outcomes:
            _outcomes[setting] = _compare(setting)
    return not _outcomes[setting]["failures"]


def _compare(setting: _Setting) -> dict[str, Any]:
    dtype, weight_dtype, width, packed, device_index = setting
    errors: dict[str, float] = {}
    try:
        with ThreadPoolExecutor(max_workers=1) as thread:
            device = torch.device("cuda", device_index)
            errors = thread.submit(
                measure_errors, dtype, width, packed=packed, device=device, weight_dtype=weight_dtype
            ).result()
    # whatever a compiler, an assembler or a driver raises: PyTorch's form is there
    except Exception as error:
        failures = [f"{type(error).__name__}: {(str(error).splitlines() or ['no reason given'])[0]}"]
    else:
        bound = BOUNDS[dtype]
        failures = [f"{name} {error:.2e} > {bound:g}" for name, error in errors.items() if not error < bound]
    if failures:
        message = f"the fused convolution is not used, for it failed its self-check: {'; '.join(failures)}"
        warnings.warn(message, RuntimeWarning, stacklevel=2)
    return {
        "kernel": "short_convolution",
        "dtype": str(dtype).removeprefix("torch."),
        "weight_dtype": str(weight_dtype).removeprefix("torch."),
        "width": width,
        "packed": packed,
        "gpu": torch.cuda.get_device_name(device_index),
        "errors": errors,
        "failures": failures,
    }


def measure_errors(
    dtype: torch.dtype, width: int, *, packed: bool, device: torch.device, weight_dtype: torch.dtype = torch.float32
) -> dict[str, float]:
    """RMS(x - ref) / RMS(ref) of y and of the gradients, the largest over CHANNELS, with SiLU and without."""
    errors: dict[str, float] = {}
    for channels in CHANNELS:
        for silu in (False, True):
            for name, error in _errors(dtype, weight_dtype, width, channels, packed, silu, device).items():
                key = f"{name} silu" if silu else name
                # of a NaN the maximum is not one
                errors[key] = error if key not in errors or not error <= errors[key] else errors[key]
    return errors


def _errors(
    dtype: torch.dtype,
    weight_dtype: torch.dtype,
    width: int,
    channels: int,
    packed: bool,
    silu: bool,
    device: torch.device,
) -> dict[str, float]:
    from rla_exp.kernels.convolution import short_convolution
    from rla_exp.kernels.triton.convolution import short_convolution as kernels

    generator = torch.Generator().manual_seed(0)
    B, T = (1, 262) if packed else (2, 131)
    positions = torch.cat([torch.arange(n) for n in (1, 2, 130, 129)]) if packed else None
    x = torch.randn(B, T, channels, generator=generator).to(dtype)
    weight = torch.randn(channels, width, generator=generator).to(weight_dtype)
    dy = torch.randn(B, T, channels, generator=generator).to(dtype)
    exact = (x.double().requires_grad_(), weight.double().requires_grad_())
    found = (x.to(device).requires_grad_(), weight.to(device).requires_grad_())
    expected: list[Tensor] = [short_convolution(*exact, positions=positions, silu=silu)]
    expected += torch.autograd.grad(expected[0], exact, dy.double())
    computed: list[Tensor] = [kernels(*found, None if positions is None else positions.to(device), silu)]
    computed += torch.autograd.grad(computed[0], found, dy.to(device))
    return {
        name: float((a.detach().double().cpu() - b.detach()).norm() / b.detach().norm())
        for name, a, b in zip(("y", "dx", "dweight"), computed, expected, strict=True)
    }
