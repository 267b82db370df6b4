"""The kernels' operator under DistributedDataParallel. Not collected by itself: test_interpreter.py starts it."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from rla_exp.kernels.inputs import Inputs
from rla_exp.kernels.verify.backends import load_backend
from rla_exp.kernels.verify.cases import RDN

RANKS = 2
T, H, D = 40, 1, 16


class Mixer(nn.Module):
    """RDN on projections of its input [B, T, D]; the strengths are parameters that reach it by no product."""

    def __init__(self) -> None:
        super().__init__()
        self.projections = nn.ModuleList(nn.Linear(D, H * D) for _ in range(3))
        self.strengths = nn.Parameter(torch.zeros(3, H))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (project(x).unflatten(-1, (H, D)) for project in self.projections)
        g, beta, gamma = (strength.sigmoid().expand(q.shape[:-1]) for strength in self.strengths)
        inputs = Inputs(q=q, k=k, v=v, g=-g, beta=beta, gamma=gamma, initial_state=None)
        o, _ = load_backend("triton").compute(inputs, RDN)
        return o


def gradients(model: nn.Module, rank: int) -> list[Tensor]:
    """Of a loss over what this rank is given."""
    x = torch.randn(1, T, D, generator=torch.Generator().manual_seed(rank))
    model.zero_grad()
    model(x).square().mean().backward()
    found = [parameter.grad for parameter in model.parameters()]
    assert all(gradient is not None and gradient.abs().max() > 0 for gradient in found)
    return [gradient.clone() for gradient in found if gradient is not None]


def on_rank(rank: int, folder: str) -> None:
    torch.manual_seed(0)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=RANKS)
    try:
        model = Mixer()
        of_each = [gradients(model, other) for other in range(RANKS)]
        got = gradients(DistributedDataParallel(model), rank)
        for gradient, parts in zip(got, zip(*of_each, strict=True), strict=True):
            torch.testing.assert_close(gradient, torch.stack(parts).mean(0), rtol=1e-5, atol=1e-8)
            # else the mean would be no more than what each has
            assert (parts[0] - parts[1]).norm() > 0.1 * parts[0].norm()
    finally:
        dist.destroy_process_group()


def test_gradients_are_those_of_all_ranks(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(on_rank, (str(tmp_path),), nprocs=RANKS)
