"""Finding the layer where numbers stop being finite."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rla_exp.lit.nonfinite import first_nonfinite_layer, last_nonfinite_gradient


class Inner(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.second = nn.Linear(4, 4)
        self.breaks = False

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        if self.breaks:
            x = x / 0.0
        return self.second(x)


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Linear(4, 4)
        self.blocks = nn.ModuleList(Inner() for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        x = self.embedding(x)
        for block in self.blocks:
            x = block(x)
        return x


def test_finite() -> None:
    model = Model()
    assert first_nonfinite_layer(model, lambda: model(torch.ones(4))) is None
    model(torch.ones(4)).sum().backward()
    assert last_nonfinite_gradient(model) is None


def test_innermost_module_that_began() -> None:
    model = Model()
    with torch.no_grad():
        model.blocks[1].first.weight[0, 0] = float("nan")
    assert first_nonfinite_layer(model, lambda: model(torch.ones(4))) == "blocks.1.first"
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_code_between_children_is_the_parents() -> None:
    model = Model()
    model.blocks[0].breaks = True
    assert first_nonfinite_layer(model, lambda: model(torch.ones(4))) == "blocks.0"


def test_gradient_begins_at_the_last_layer_that_has_it() -> None:
    model = Model()
    # the gradients of what stands before it are not finite either
    handle = model.blocks[0].second.register_full_backward_hook(lambda *_: (torch.full((4,), float("nan")),))
    model(torch.ones(4)).sum().backward()
    handle.remove()
    assert last_nonfinite_gradient(model) == "blocks.0.first"
    model.zero_grad()
    model.embedding.weight.grad = torch.full((4, 4), float("inf"))
    assert last_nonfinite_gradient(model) == "embedding"
