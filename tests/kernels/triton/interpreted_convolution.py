"""The convolution's kernels in Triton's interpreter. Not collected by itself: test_interpreter.py starts it."""

from __future__ import annotations

import pytest
import torch

from rla_exp.kernels.convolution import BOUNDS, measure_errors

CPU = torch.device("cpu")


@pytest.mark.parametrize("packed", [False, True], ids=["rows", "packed"])
@pytest.mark.parametrize("width", [1, 3, 4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_convolution(dtype: torch.dtype, width: int, packed: bool) -> None:
    errors = measure_errors(dtype, width, packed=packed, device=CPU)
    assert set(errors) == {"y", "dx", "dweight", "y silu", "dx silu", "dweight silu"}
    assert max(errors.values()) < BOUNDS[dtype], errors
