"""What the device itself can do, measured in the same run: copying memory and multiplying matrices."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from rla_exp.bench.timing import measure

COPY_BYTES = {"cuda": 2**30, "cpu": 2**26}
MATRIX = {"cuda": 8192, "cpu": 512}


@dataclass(frozen=True)
class Limits:
    """Ceilings for any kernel."""

    copy_gb_per_s: float
    """Bytes read and written by a copy of one large buffer to another, in 10^9 a second."""
    matmul_tflop_per_s: float
    """Of one large product of square matrices, bfloat16 on a GPU and float32 on a CPU."""


def measure_limits(device: torch.device, seconds: float) -> Limits:
    """Copy and product, each for about so many seconds."""
    size = COPY_BYTES[device.type]
    source = torch.zeros(size, dtype=torch.int8, device=device)
    target = torch.empty_like(source)
    copy = measure(lambda: target.copy_(source), device, seconds)
    n = MATRIX[device.type]
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    x = torch.randn(n, n, device=device, dtype=dtype)
    product = torch.empty_like(x)
    torch.mm(x, x, out=product)
    matmul = measure(lambda: torch.mm(x, x, out=product), device, seconds)
    return Limits(2 * size / copy.ms / 1e6, 2 * n**3 / matmul.ms / 1e9)
