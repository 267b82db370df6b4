"""One case: run the backend, compare with the reference, say what is beyond its bound."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from rla_exp.kernels.chunked import chunked_with_error
from rla_exp.kernels.inputs import Inputs
from rla_exp.kernels.options import Options
from rla_exp.kernels.state import State
from rla_exp.kernels.verify.bounds import MASK_MARGIN, TRUE_MASK_BOUND, bound
from rla_exp.kernels.verify.problem import Case, in_float64, make_problem, named_leaves, one_token
from rla_exp.kernels.verify.reference import Compute, definition, with_clip_mask

# a smaller reference (a state's gradient after strong decays, say) counts as this: inputs are of the order of 1
MIN_RMS = 1e-6

ClipMask = Callable[[Inputs, Options], Tensor]
Step = Callable[..., tuple[Tensor, State]]
"""Called with (inputs, options, inplace=...)."""


@dataclass(frozen=True)
class Backend:
    """What is measured."""

    compute: Compute
    step: Step
    clip_mask: ClipMask
    """Where the clip lets gradients pass, [B, T, H, V] bool, as the backend itself decides it."""
    take_candidate: Callable[[int], AbstractContextManager[None]] = lambda _: nullcontext()
    """Inside, the backend takes this of its candidates for the block sizes (`Case.candidate`)."""


@dataclass
class CaseResult:
    """What came of a case; errors are RMS(x - ref) / RMS(ref), by tensor."""

    name: str
    errors: dict[str, float] = field(default_factory=dict)
    true_mask_errors: dict[str, float] = field(default_factory=dict)
    """Of gradients against those under the reference's own clip mask; `errors` are under the backend's."""
    share_clipped: float | None = None
    mask_distance: float | None = None
    """Largest | |v - P| - c | / max(1, |v|) among entries that the backend clips and the reference does not, or v.v."""
    failures: list[str] = field(default_factory=list)
    seconds: float = 0.0
    context_is_broken: bool = False
    """An error of the GPU was met that all later work of the process would meet as well."""
    lacked_memory: bool = False
    """There was too little memory, which says nothing of the backend where other processes had some of it."""

    def to_json(self) -> dict[str, Any]:
        """As JSON has it: numbers that are not finite become null (failures name them)."""
        content = {name: value for name, value in asdict(self).items() if value not in (None, {}, [], False)}
        for name in ("errors", "true_mask_errors"):
            if name in content:
                content[name] = {key: _rounded(value) for key, value in content[name].items()}
        for name in ("share_clipped", "mask_distance", "seconds"):
            if name in content:
                content[name] = _rounded(content[name])
        return content


def check_case(case: Case, backend: Backend, device: torch.device) -> CaseResult:
    """Never raises but for interrupts: what goes wrong is a failure of the case."""
    result = CaseResult(case.name)
    start = perf_counter()
    try:
        with backend.take_candidate(case.candidate):
            if case.scenario.step:
                _check_step(case, backend.step, device, result)
            elif case.scenario.gradients:
                _check(case, backend, device, result)
            else:
                _check_outputs(case, backend.compute, device, result)
    except Exception as error:
        result.failures.append(f"{type(error).__name__}: {error}"[:2000])
        result.context_is_broken = "CUDA error" in str(error) or "illegal memory access" in str(error)
        result.lacked_memory = any(words in str(error) for words in ("out of memory", "ALLOC_FAILED"))
    result.seconds = perf_counter() - start
    return result


def _check(case: Case, backend: Backend, device: torch.device, result: CaseResult) -> None:
    options = case.options
    problem = make_problem(case, device)
    exact = in_float64(problem)
    with uninitialized_memory_is_nan():
        got = solve(problem, options, backend.compute)
        for launch in range(1, case.scenario.launches):
            again = solve(problem, options, backend.compute)
            differing = [name for name in got if not torch.equal(got[name], again[name])]
            if differing:
                result.failures.append(f"launch {launch + 1} has other bits: {', '.join(differing)}")
                break
    expected = solve(exact, options, definition(exact))
    if options.residual == "fit" and options.clip is not None:
        with uninitialized_memory_is_nan():
            mask = backend.clip_mask(problem, options)
        error = prediction_error(exact, options)
        true_mask = error.abs() <= options.clip
        distance = (error.abs() - options.clip).abs() / exact.v.detach().abs().clamp(min=1)
        result.share_clipped = 1 - mask.double().mean().item()
        flipped = distance[mask != true_mask]
        result.mask_distance = flipped.max().item() if flipped.numel() else 0.0
        if not result.mask_distance < MASK_MARGIN:
            result.failures.append(f"clip mask differs at a distance of {result.mask_distance:.2e} from the bound")
        result.true_mask_errors = error_ratios(got, expected, only=lambda name: name[0] == "d")
        for name, ratio in result.true_mask_errors.items():
            if not ratio <= TRUE_MASK_BOUND and not ratio <= bound(name, case):
                result.failures.append(f"{name} {ratio:.2e} > {TRUE_MASK_BOUND:.0e} (true mask)")
        expected = solve(exact, options, with_clip_mask(mask))
    _compare(case, got, expected, result)


@torch.no_grad()
def _check_outputs(case: Case, compute: Compute, device: torch.device, result: CaseResult) -> None:
    problem = make_problem(case, device)
    exact = in_float64(problem)
    with uninitialized_memory_is_nan():
        o, state = compute(problem, case.options)
    expected, expected_state = definition(exact)(exact, case.options)
    _compare(case, _named(o, state), _named(expected, expected_state), result)


@torch.no_grad()
def _check_step(case: Case, step: Step, device: torch.device, result: CaseResult) -> None:
    problem = make_problem(case, device)
    exact = in_float64(problem)
    expected, expected_state = definition(exact)(exact, case.options)
    token = one_token(problem)
    assert token.initial_state is not None
    before = [x.clone() for x in _states(token.initial_state)]
    with uninitialized_memory_is_nan():
        o, state = step(token, case.options, inplace=False)
        if not all(torch.equal(x, y) for x, y in zip(_states(token.initial_state), before, strict=True)):
            result.failures.append("the given state was written to")
        o_inplace, same = step(token, case.options, inplace=True)
    new, written = _named(o, state), _named(o_inplace, same)
    differing = [name for name in new if not torch.equal(new[name], written[name])]
    if differing:
        result.failures.append(f"in place has other bits: {', '.join(differing)}")
    if any(x is not y for x, y in zip(same, token.initial_state, strict=True)):
        result.failures.append("in place returns another state")
    _compare(case, new, _named(expected[:, 0], expected_state), result)


def _compare(case: Case, got: dict[str, Tensor], expected: dict[str, Tensor], result: CaseResult) -> None:
    result.errors = error_ratios(got, expected)
    for name, ratio in result.errors.items():
        if not ratio <= bound(name, case):
            result.failures.append(f"{name} {ratio:.2e} > {bound(name, case):.0e}")


def _states(state: State) -> list[Tensor]:
    return [x for x in state if x is not None]


def _named(o: Tensor, state: State) -> dict[str, Tensor]:
    return {"o": o, "S": state.S} | ({} if state.R is None else {"R": state.R})


def solve(problem: Inputs, options: Options, compute: Compute) -> dict[str, Tensor]:
    """o, the final states S and R and every gradient d... of a weighted sum of the three."""
    results = _named(*compute(problem, options))
    generator = torch.Generator().manual_seed(99)
    # the upstream gradient of o is rounded for all alike, to the dtype that a backend may get it in
    weights = {
        name: torch.randn(x.shape, generator=generator, dtype=torch.float64)
        .to(torch.bfloat16 if name == "o" else torch.float32)
        .to(x)
        for name, x in results.items()
    }
    leaves = named_leaves(problem)
    gradients = torch.autograd.grad(
        list(results.values()), list(leaves.values()), list(weights.values()), materialize_grads=True
    )
    results |= {f"d{name}": gradient for name, gradient in zip(leaves, gradients, strict=True)}
    return {name: x.detach() for name, x in results.items()}


def error_ratios(
    got: dict[str, Tensor], expected: dict[str, Tensor], only: Callable[[str], bool] = lambda _: True
) -> dict[str, float]:
    """RMS(x - ref) / RMS(ref) by tensor."""
    return {name: error_ratio(got[name], reference) for name, reference in expected.items() if only(name)}


def error_ratio(x: Tensor, reference: Tensor) -> float:
    """RMS(x - ref) / RMS(ref)."""
    error = (x.double() - reference).square().mean().sqrt()
    return (error / reference.square().mean().sqrt().clamp(min=MIN_RMS)).item()


@torch.no_grad()
def prediction_error(exact: Inputs, options: Options) -> Tensor:
    """v - P [B, T, H, V], before the clip, in float64."""
    _, _, error = chunked_with_error(exact, options)
    assert error is not None
    return error


@contextmanager
def uninitialized_memory_is_nan() -> Iterator[None]:
    """torch.empty gives NaN inside: a place that a kernel leaves unwritten shows."""
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    memory: Any = torch.utils.deterministic
    fill = memory.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True, warn_only=True)
    memory.fill_uninitialized_memory = True
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        memory.fill_uninitialized_memory = fill


def _rounded(x: float) -> float | None:
    return float(f"{x:.3g}") if math.isfinite(x) else None
