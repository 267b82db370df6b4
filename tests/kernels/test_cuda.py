"""The chunkwise form on a GPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from rla_exp.kernels import linear_attention, linear_attention_step
from rla_exp.kernels.decay import decays_backward, make_decays

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU"),
]


@pytest.fixture
def _tf32() -> Iterator[None]:
    """Products of float32 may be rounded to TF32. By hand: monkeypatch deletes attributes that only look like one."""
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = True
    yield
    torch.backends.cuda.matmul.allow_tf32 = before


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-4)])
def test_as_on_the_cpu(
    dtype: torch.dtype,
    tolerance: float,
    options: dict[str, Any],
    make_problem: Callable[..., Any],
    solve: Callable[..., Any],
    assert_equal: Callable[..., None],
) -> None:
    problem = make_problem(options, B=1, T=200, num_states=3)
    cu_seqlens = torch.tensor([0, 70, 71, 200])
    expected = solve(problem, options, backend="recurrent", cu_seqlens=cu_seqlens)
    got = solve(problem.to(dtype, "cuda"), options, backend="chunked", cu_seqlens=cu_seqlens.cuda())
    assert_equal({name: x.cpu() for name, x in got.items()}, expected, tolerance)


@pytest.mark.usefixtures("_tf32")
def test_strong_decays_with_tf32_allowed(make_problem: Callable[..., Any], solve: Callable[..., Any]) -> None:
    """The exponents of the decays are not rounded to TF32, whatever products may be."""
    options = {"rule": "additive", "residual": "off"}
    problem = make_problem(options, B=1, T=130, decay="1e-6")
    expected = solve(problem, options, backend="recurrent")["o"]
    got = solve(problem.to(torch.float32, "cuda"), options, backend="chunked")["o"]
    error = (got.cpu() - expected).abs().max() / expected.abs().max()
    assert error < 2e-3


@pytest.mark.usefixtures("_tf32")
def test_gradients_of_decays_with_tf32_allowed() -> None:
    """Nor is dg, a sum over up to C^2 / 4 pairs, which TF32 would leave about 1e-4 off."""

    def log_decay_gradient(device: str, dtype: torch.dtype) -> torch.Tensor:
        generator = torch.Generator().manual_seed(0)
        log_decay, noise = (torch.rand(8, size, generator=generator).to(device, dtype) for size in (64, 64**2))
        decays = make_decays(-log_decay)
        pairs = noise.view(8, 64, 64) * decays.between
        columns = (decays.own, decays.from_start, decays.to_end, decays.whole)
        return decays_backward(decays, pairs, *columns).double().cpu()

    expected = log_decay_gradient("cpu", torch.float64)
    error = (log_decay_gradient("cuda", torch.float32) - expected).abs().max() / expected.abs().max()
    assert error < 1e-5


# torch says so of the mode itself whenever it is switched on
@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype")
def test_never_waits_for_the_gpu(make_problem: Callable[..., Any]) -> None:
    options = {"rule": "delta", "residual": "fit"}
    problem = make_problem(options, T=200).to(torch.float32, "cuda")
    arguments = problem.arguments
    token = {name: x[:, 0].detach() for name, x in arguments.items()}

    def call() -> None:
        o, _ = linear_attention(**arguments, **options, backend="chunked")
        torch.autograd.grad(o, list(arguments.values()), torch.ones_like(o))
        linear_attention_step(**token, **options, state=problem.state)

    call()
    torch.cuda.set_sync_debug_mode("error")
    try:
        call()
    finally:
        torch.cuda.set_sync_debug_mode("default")
