"""Where a loss or gradient stopped being finite."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


def first_nonfinite_layer(model: nn.Module, forward: Callable[[], object]) -> str | None:
    """Name of the innermost module in which a forward pass first leaves the finite numbers; None if it never does.

    Modules finish in the order of computation, inner ones first, so the first bad output is the origin. A module
    whose input is already bad is innocent: then the code of its parent, between its children, began it.

    Args:
        forward: runs the model once.
    """
    found: list[str] = []
    names = {module: name for name, module in model.named_modules()}
    parents = {child: module for module in model.modules() for child in module.children()}

    def check_input(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        if not found and not _all_finite(inputs):
            found.append(names[parents.get(module, model)])

    def check_output(module: nn.Module, inputs: tuple[Any, ...], output: object) -> None:
        if not found and not _all_finite(output):
            found.append(names[module])

    hooks = [hook for module in names for hook in _hook(module, check_input, check_output)]
    try:
        with torch.no_grad():
            forward()
    finally:
        for hook in hooks:
            hook.remove()
    return (found[0] or "the model") if found else None


def last_nonfinite_gradient(model: nn.Module) -> str | None:
    """Name of the module whose gradients stopped being finite first; None if all are finite.

    Backward passes go from the last layer to the first and carry what is not finite along, so the last layer that
    has it began. Embeddings are looked at last: a tied one is the head too.
    """
    bad = [name for name, parameter in model.named_parameters() if not _all_finite(parameter.grad)]
    if not bad:
        return None
    inner = [name for name in bad if not name.startswith("embedding")]
    return (inner or bad)[-1].rpartition(".")[0] or bad[-1]


def _hook(module: nn.Module, check_input: Any, check_output: Any) -> list[torch.utils.hooks.RemovableHandle]:
    return [module.register_forward_pre_hook(check_input), module.register_forward_hook(check_output)]


def _all_finite(value: object) -> bool:
    if isinstance(value, Tensor):
        return not value.is_floating_point() or bool(torch.isfinite(value).all())
    if isinstance(value, tuple | list):
        return all(_all_finite(item) for item in value)
    return True
