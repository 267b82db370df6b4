"""The backends that can be measured, by name, without the checks and the choice of the public functions."""

from __future__ import annotations

import torch
from torch import Tensor

from rla_exp.kernels.chunked import chunked, chunked_with_error
from rla_exp.kernels.inputs import Inputs
from rla_exp.kernels.options import Options
from rla_exp.kernels.step import step
from rla_exp.kernels.verify.measure import Backend

NAMES = ("chunked", "triton")


def load_backend(name: str) -> Backend:
    """The backend of this name; imports triton for "triton" alone."""
    return _triton() if name == "triton" else Backend(chunked, step, _chunked_mask)


@torch.no_grad()
def _chunked_mask(problem: Inputs, options: Options) -> Tensor:
    _, _, error = chunked_with_error(problem, options)
    assert error is not None
    assert options.clip is not None
    return error.abs() <= options.clip


def _triton() -> Backend:
    from rla_exp.kernels.triton.operator import clip_mask, triton_attention
    from rla_exp.kernels.triton.step import triton_step
    from rla_exp.kernels.triton.tuning import take_candidate

    return Backend(triton_attention, triton_step, clip_mask, take_candidate)
