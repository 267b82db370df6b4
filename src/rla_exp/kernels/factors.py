"""Products and sums in which None stands for 1 or 0: what a call lacks costs nothing."""

from __future__ import annotations

from torch import Tensor


def times(x: Tensor, factor: Tensor | None) -> Tensor:
    """x times a factor, None meaning 1."""
    return x if factor is None else x * factor


def product(*factors: Tensor | None) -> Tensor | None:
    """The product of those factors that are not None; None if all are."""
    result = None
    for factor in factors:
        result = factor if result is None else times(result, factor)
    return result


def plus(*terms: Tensor | None) -> Tensor | None:
    """The sum of those terms that are not None; None if all are."""
    result = None
    for term in terms:
        if term is not None:
            result = term if result is None else result + term
    return result


def dot(x: Tensor, y: Tensor) -> Tensor:
    """[..., D], [..., D] -> [..., 1]."""
    return (x * y).sum(-1, keepdim=True)
