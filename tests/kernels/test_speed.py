"""The chunkwise form is fast on a CPU: against the definition, and against the fallback that transformers ships."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from rla_exp.kernels import linear_attention

B, T, H, K, V = 1, 2048, 4, 64, 64


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def seconds(calls: list[Callable[[], object]], repetitions: int) -> list[float]:
    """Median processor time of each call; the calls take turns, so that a busy machine slows all alike."""
    times: list[list[float]] = [[] for _ in calls]
    for _ in range(repetitions):
        for call, taken in zip(calls, times, strict=True):
            start = time.process_time()
            call()
            taken.append(time.process_time() - start)
    return [statistics.median(taken) for taken in times]


def inputs() -> tuple[list[Tensor], Tensor]:
    generator = torch.Generator().manual_seed(0)
    q, k = (torch.nn.functional.normalize(torch.randn(B, T, H, K, generator=generator), dim=-1) for _ in range(2))
    v = torch.randn(B, T, H, V, generator=generator)
    g, beta, gamma = (torch.rand(B, T, H, generator=generator) for _ in range(3))
    leaves = [x.requires_grad_() for x in (q, k, v, -g, beta, gamma)]
    return leaves, torch.randn(B, T, H, V, generator=generator)


@pytest.mark.parametrize("residual", ["off", "fit"])
def test_five_times_faster_than_the_definition(residual: str) -> None:
    leaves, do = inputs()
    leaves = leaves if residual == "fit" else leaves[:5]

    def call(backend: str) -> None:
        o, _ = linear_attention(*leaves, rule="delta", residual=residual, backend=backend)
        torch.autograd.grad(o, leaves, do)

    call("chunked")
    chunked, recurrent = seconds([lambda: call("chunked"), lambda: call("recurrent")], 1)
    assert 5 * chunked < recurrent, f"chunked {chunked:.3f} s, recurrent {recurrent:.3f} s"


@pytest.mark.filterwarnings("ignore")  # transformers warns of what it cannot find as it is imported
def test_not_slower_than_the_fallback_of_transformers() -> None:
    modeling = pytest.importorskip("transformers.models.qwen3_next.modeling_qwen3_next")
    leaves, do = inputs()
    leaves = leaves[:5]

    def ours() -> None:
        o, _ = linear_attention(*leaves, rule="delta")
        torch.autograd.grad(o, leaves, do)

    def theirs() -> None:
        o, _ = modeling.torch_chunk_gated_delta_rule(*leaves)
        torch.autograd.grad(o, leaves, do)

    ours()
    theirs()
    mine, peer = seconds([ours, theirs], 9)
    assert mine <= peer, f"ours {mine:.3f} s, transformers' {peer:.3f} s"
