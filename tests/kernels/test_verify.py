"""The check of backends: its reference is the definition, and what is wrong does not pass."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations, product
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from rla_exp.cli.check_kernels import main
from rla_exp.kernels import State
from rla_exp.kernels.chunked import chunked
from rla_exp.kernels.inputs import Inputs
from rla_exp.kernels.options import Options
from rla_exp.kernels.recurrent import recurrent
from rla_exp.kernels.verify import workers
from rla_exp.kernels.verify.backends import load_backend
from rla_exp.kernels.verify.bounds import bound
from rla_exp.kernels.verify.cases import (
    CANDIDATES,
    DTYPES,
    GATED_DELTA_NET,
    HEAD_DIMS,
    RDN,
    RLA,
    all_cases,
    option_sets,
    pairwise_settings,
    quick_cases,
)
from rla_exp.kernels.verify.measure import (
    Backend,
    CaseResult,
    check_case,
    error_ratio,
    prediction_error,
    solve,
    uninitialized_memory_is_nan,
)
from rla_exp.kernels.verify.problem import Case, Scenario, describe, in_float64, make_problem
from rla_exp.kernels.verify.reference import with_clip_mask

CPU = torch.device("cpu")
CLIPPED = [options for options in option_sets() if options.residual == "fit" and options.clip is not None]


def small_case(options: Options = RDN, dtype: torch.dtype = torch.float32, **scenario: Any) -> Case:
    scenario = {"name": "small", "lengths": (20,), **scenario}
    return Case(scenario=Scenario(**scenario), options=options, K=8, V=6, dtype=dtype)


@pytest.mark.parametrize("lengths", [(70,), (30, 1, 0, 12, 0)], ids=str)
@pytest.mark.parametrize("options", CLIPPED, ids=describe)
def test_the_reference_under_the_true_mask_is_the_definition(options: Options, lengths: tuple[int, ...]) -> None:
    problem = in_float64(make_problem(small_case(replace(options, normalize_qk=True), lengths=lengths), CPU))
    assert options.clip is not None
    mask = prediction_error(problem, options).abs() <= options.clip
    assert 0.1 < mask.double().mean() < 0.9
    got, expected = solve(problem, options, with_clip_mask(mask)), solve(problem, options, recurrent)
    assert got.keys() == expected.keys()
    for name, reference in expected.items():
        assert error_ratio(got[name], reference) < 1e-12, name


def test_the_reference_follows_the_mask() -> None:
    """A mask of all ones is the gradient without a clip of a forward pass with one."""
    problem = in_float64(make_problem(small_case(), CPU))
    true = solve(problem, RDN, recurrent)
    got = solve(problem, RDN, with_clip_mask(torch.ones_like(problem.v, dtype=torch.bool)))
    assert error_ratio(got["o"], true["o"]) < 1e-12
    assert error_ratio(got["dv"], true["dv"]) > 0.1


def test_cases_cover_what_they_must() -> None:
    cases = all_cases()
    assert len({case.name for case in cases}) == len(cases)
    assert len({describe(options) for options in option_sets()}) == 22
    for options, dtype in product(option_sets(), (torch.bfloat16, torch.float32)):
        of_set = [c for c in cases if (c.options, c.K, c.V, c.dtype) == (options, 128, 128, dtype)]
        lengths = {length for case in of_set for length in case.scenario.lengths}
        assert {1, 63, 65, 200, 1000, 4113} <= lengths
        assert {case.scenario.decay for case in of_set} == {"random", "none", "1", "1e-4"}
        assert {case.scenario.beta for case in of_set} == {"random", "none", "near 0", "near 1"}
        assert max(case.scenario.launches for case in of_set) == 20
        clipped = {"none", "some", "all"} if options in CLIPPED else {"some"}
        assert {case.scenario.clipped for case in of_set} == clipped
        whole = {case.scenario.decay for case in of_set if all(length % 64 == 0 for length in case.scenario.lengths)}
        assert whole == ({"random"} if dtype == torch.float32 else {"random", "none", "1", "1e-4"})
    assert len(quick_cases()) < 100
    # autotuning's choices, each on everything quick
    tuned = [case for case in cases if case.candidate]
    assert {case.candidate for case in tuned} == set(CANDIDATES)
    assert {case.options for case in tuned} == {RDN, RLA, GATED_DELTA_NET}
    # without a clip one scenario is none
    assert len(tuned) == len(CANDIDATES) * (13 + 13 + 11)


def test_settings_are_pairwise() -> None:
    settings = [
        {"K": K, "V": V, "dtype": dtype, "rule": o.rule, "residual": o.residual, "normalize": o.normalize_qk}
        for o, K, V, dtype in pairwise_settings()
    ]
    values: dict[str, tuple[Any, ...]] = {
        "K": HEAD_DIMS,
        "V": HEAD_DIMS,
        "dtype": DTYPES,
        "rule": ("additive", "delta"),
        "residual": ("off", "fit", "value"),
        "normalize": (False, True),
    }
    for x, y in combinations(values, 2):
        assert {(s[x], s[y]) for s in settings} == set(product(values[x], values[y])), (x, y)
    assert len(settings) < 40


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("options", [RDN, RLA, GATED_DELTA_NET], ids=describe)
def test_the_chunked_backend_passes(options: Options, dtype: torch.dtype) -> None:
    for scenario in ({}, {"lengths": (9, 0, 1, 40)}, {"gradients": False}, {"step": True, "lengths": (1,)}):
        result = check_case(small_case(options, dtype, **scenario), load_backend("chunked"), CPU)
        assert not result.failures
        assert 0 < result.errors["o"] < 5e-3


def broken(compute: Callable[..., Any] = chunked, **changes: Any) -> Backend:
    return replace(load_backend("chunked"), compute=compute, **changes)


def test_a_wrong_number_fails() -> None:
    def slightly_off(x: Inputs, options: Options) -> tuple[Tensor, State]:
        return chunked(replace(x, beta=None if x.beta is None else 1.001 * x.beta), options)

    failures = " ".join(check_case(small_case(), broken(slightly_off), CPU).failures)
    assert all(f"{name} " in failures for name in ("o", "S", "R", "dq", "dk", "dv", "dbeta"))
    assert check_case(small_case(gradients=False), broken(slightly_off), CPU).failures


def test_a_wrong_gradient_fails() -> None:
    def no_gradient_of_k(x: Inputs, options: Options) -> tuple[Tensor, State]:
        return chunked(replace(x, k=x.k.detach()), options)

    failures = check_case(small_case(), broken(no_gradient_of_k), CPU).failures
    assert [failure.split()[0] for failure in failures] == ["dk", "dk"]


def test_another_mask_fails_unless_the_entry_lies_at_the_bound() -> None:
    right = load_backend("chunked").clip_mask

    def one_flipped(problem: Inputs, options: Options) -> Tensor:
        mask = right(problem, options)
        mask[0, 3, 0, 0] = ~mask[0, 3, 0, 0]
        return mask

    failures = check_case(small_case(), broken(clip_mask=one_flipped), CPU).failures
    assert any(failure.startswith("clip mask differs at a distance") for failure in failures)


def test_other_bits_at_another_launch_fail() -> None:
    calls = []

    def unsteady(x: Inputs, options: Options) -> tuple[Tensor, State]:
        calls.append(0)
        o, state = chunked(x, options)
        return o * (1 + 1e-6 * (len(calls) == 3)), state

    result = check_case(small_case(launches=4), broken(unsteady), CPU)
    assert result.failures[0].startswith("launch 3 has other bits: o")


def test_what_stays_unwritten_fails() -> None:
    def partial(x: Inputs, options: Options) -> tuple[Tensor, State]:
        o, state = chunked(x, options)
        holes = torch.empty_like(o)
        return torch.where(torch.arange(o.shape[1])[:, None, None] == 5, holes, o), state

    result = check_case(small_case(gradients=False), broken(partial), CPU)
    assert result.failures == ["o nan > 1e-04"]
    assert result.to_json()["errors"]["o"] is None
    with uninitialized_memory_is_nan():
        assert torch.empty(3).isnan().all()
    assert not torch.are_deterministic_algorithms_enabled()


def test_an_error_is_a_failure() -> None:
    def crashing(x: Inputs, options: Options) -> tuple[Tensor, State]:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    result = check_case(small_case(), broken(crashing), CPU)
    assert result.failures == ["RuntimeError: CUDA error: an illegal memory access was encountered"]
    assert result.context_is_broken
    assert not result.errors


def test_a_step_that_writes_where_it_must_not_fails() -> None:
    def careless(x: Inputs, options: Options, *, inplace: bool) -> tuple[Tensor, State]:
        return load_backend("chunked").step(x, options, inplace=True)

    result = check_case(small_case(step=True, lengths=(1,)), broken(step=careless), CPU)
    assert "the given state was written to" in result.failures


def test_bounds() -> None:
    half, single = small_case(dtype=torch.bfloat16), small_case(decay="1e-4")
    assert [bound(name, half) for name in ("o", "R", "dk", "dS0", "dg")] == [5e-3, 5e-3, 8e-3, 8e-3, 2e-2]
    assert [bound(name, single) for name in ("o", "dk", "dbeta")] == [1e-4, 1e-4, 5e-3]
    collinear = small_case(dtype=torch.float16, collinear=True, beta="near 1")
    assert [bound(name, collinear) for name in ("o", "dk", "dg")] == [5e-3, 2e-2, 2e-2]


def test_a_process_that_dies_is_a_failure_of_its_case_alone() -> None:
    worker = workers._Worker("chunked", "cpu")
    assert not worker.check(small_case()).failures
    worker._process.kill()
    result = worker.check(small_case())
    assert result.failures == ["the process died with exit code -9"]
    assert result.context_is_broken
    worker.end()


def test_what_lacked_memory_beside_others_is_checked_again_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    checked: list[tuple[str, int]] = []

    class Worker:
        """The first time that it meets b it lacks memory."""

        alive = 0
        seconds = 0.0

        def __init__(self, *_: str) -> None:
            Worker.alive += 1

        def check(self, case: Case) -> CaseResult:
            checked.append((case.scenario.name, Worker.alive))
            time.sleep(Worker.seconds)
            is_short = case.scenario.name == "b" and [name for name, _ in checked].count("b") == 1
            failures = ["OutOfMemoryError: CUDA out of memory"] if is_short else []
            return CaseResult(case.name, failures=failures, lacked_memory=is_short)

        def end(self) -> None:
            Worker.alive -= 1

    monkeypatch.setattr(workers, "_Worker", Worker)
    groups = zip("abc", (RDN, RLA, GATED_DELTA_NET), strict=True)
    cases = [small_case(options, name=name) for name, options in groups]
    results = list(workers.check_all(cases, "chunked", "cpu", jobs=3))
    assert sorted(result.name for result in results) == sorted(case.name for case in cases)
    assert not any(result.failures for result in results)
    assert checked[-1] == ("b", 1)
    assert len(checked) == 4

    # nothing was beside it, or no time is left: the failure stays
    checked.clear()
    (result,) = workers.check_all(cases[1:2], "chunked", "cpu", jobs=1)
    assert result.lacked_memory
    assert len(checked) == 1

    checked.clear()
    monkeypatch.setattr(Worker, "seconds", 1.0)
    results = list(workers.check_all(cases, "chunked", "cpu", jobs=3, limit=0.5))
    assert [result.failures for result in results if result.failures] == [["OutOfMemoryError: CUDA out of memory"]]
    assert len(checked) == 3


def test_the_command_writes_a_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--quick", "--backend", "chunked", "--device", "cpu", "--jobs", "1", "--out", str(tmp_path / "cpu")]
    only = ["--only", "delta off", "65 tokens"]
    assert main([*arguments, *only]) == 0
    report = json.loads((tmp_path / "cpu.json").read_text())
    assert (report["backend"], report["cases"], report["failed"]) == ("chunked", 1, 0)
    assert report["rows"][0]["name"] == "delta off 128x128 bfloat16: 65 tokens"
    assert report["rows"][0]["errors"]["o"] < 5e-3
    text = (tmp_path / "cpu.md").read_text()
    assert "| bfloat16 | 65 tokens | 1 | 0 |" in text
    assert "Failures: 0 of 1 cases" in text

    # what passed is not checked again, but of these sources alone
    (tmp_path / "cpu.json").write_text(json.dumps(report | {"seconds": 1000}))
    assert main([*arguments, *only, "--resume", "--limit", "0"]) == 0
    resumed = json.loads((tmp_path / "cpu.json").read_text())
    assert (resumed["rows"], resumed["seconds"]) == (report["rows"], 1000)
    for changed in ({"sources": "others"}, {"versions": {}}, {"rows": [*report["rows"], {"name": "another case"}]}):
        (tmp_path / "cpu.json").write_text(json.dumps(report | changed))
        assert main([*arguments, *only, "--resume", "--limit", "0"]) == 1
        assert json.loads((tmp_path / "cpu.json").read_text())["failed"] == 1
    assert main([*arguments, *only, "--limit", "0"]) == 1
    assert "not run: out of time" in capsys.readouterr().out
    assert json.loads((tmp_path / "cpu.json").read_text())["failed"] == 1
    assert main([*arguments, "--only", "nothing like this"]) == 1
