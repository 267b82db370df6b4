"""The costs that docs/math.md states."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from rla_exp.kernels import linear_attention

B, T, H, K, V, C = 2, 64, 3, 24, 24, 32
RDN = {"rule": "delta", "residual": "fit"}


class Products(TorchDispatchMode):
    """Adds up the floating point operations of matrix products."""

    def __init__(self) -> None:
        super().__init__()
        self.operations = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if "mm" in name:
            x, y = (arg for arg in args if isinstance(arg, Tensor)) if name in ("mm", "bmm") else args[1:3]
            assert x.shape[-1] == y.shape[-2]
            self.operations += 2 * x.numel() * y.shape[-1]
        return func(*args, **(kwargs or {}))


def arguments(residual: str, V: int = V) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = [(K,), (K,), (V,), (), (), *([()] if residual != "off" else [])]
    q, k, v, *gates = (torch.rand(B, T, H, *shape, generator=generator) for shape in shapes)
    return [x.requires_grad_() for x in (q, k, v, -gates[0], *gates[1:])]


@pytest.mark.parametrize(
    ("options", "forward", "backward"),
    [
        ({"rule": "delta", "residual": "off"}, (3, 5), (7, 9)),
        (RDN, (6, 8), (14, 14)),
        ({"rule": "additive", "residual": "off"}, (2, 2), (4, 4)),
        ({"rule": "additive", "residual": "fit"}, (5, 5), (10, 10)),
    ],
)
def test_operations(options: dict[str, Any], forward: tuple[int, int], backward: tuple[int, int]) -> None:
    leaves = arguments(options["residual"])
    state, inside, decays = 2 * K * V, 2 * C * K, 2 * (C * C + 3 * C + 1)
    with Products() as products:
        o, _ = linear_attention(*leaves, **options)
    assert products.operations == B * T * H * (forward[0] * state + forward[1] * inside + decays)
    with Products() as products:
        torch.autograd.grad(o, leaves, torch.ones_like(o))
    assert products.operations == B * T * H * (backward[0] * state + backward[1] * inside + decays)


def test_memory_kept_for_the_backward_pass() -> None:
    kept: dict[int, int] = {}

    def pack(x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes() // 4
        return x

    V = 40
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        linear_attention(*arguments("fit", V), **RDN, normalize_qk=True)
    assert sum(kept.values()) / (B * T * H) == 7 * K + 9 * V + 5 * C + 2 * K * V / C + 10 + 1 / C
