"""What the kernels of this process were checked for before they were used."""

from __future__ import annotations

from typing import Any

from rla_exp.kernels.convolution_check import convolution_checks
from rla_exp.kernels.triton import guard


def self_checks() -> list[dict[str, Any]]:
    """The outcomes that this process has relied on: GPU, what was compared, errors and failures of each."""
    return [*guard.self_checks(), *convolution_checks()]
