"""Cases are measured in processes, and what fails is recorded without stopping the others."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from rla_exp.bench.calls import make_call
from rla_exp.bench.cases import OPS, PASSES, Case, Op, Pass, Shape, all_cases
from rla_exp.bench.implementations import IMPLEMENTATIONS, OURS, default_names, named
from rla_exp.bench.problem import make_problem
from rla_exp.bench.processes import Worker
from rla_exp.bench.run import BenchSettings, run_benchmark
from rla_exp.bench.timing import MIN_REPEATS, Timing, measure, repeats, summarize, writes
from rla_exp.kernels import linear_attention

SMALL = Shape(1, 64, 2, 32, 32, "float32")
CPU = torch.device("cpu")
CONTRACT = {"op", "peer", "pass", "B", "T", "H", "K", "V", "dtype", "ms", "ms_p20", "ms_p80", "peak_mib"}


def case(op: Op, run: Pass, shape: Shape = SMALL) -> Case:
    return Case(op, run, shape)


def settings(cases: Sequence[Case], **changes: Any) -> BenchSettings:
    given: dict[str, Any] = {
        "cases": cases,
        "implementations": [OURS, "sdpa_flash"],
        "device": "cpu",
        "backend": "chunked",
        "seconds": 0.001,
        "limit": None,
        "command": "rla-bench",
        "commit": "abc",
    }
    return BenchSettings(**given | changes)


def test_every_shape_comes_once() -> None:
    cases = list(all_cases(OPS, PASSES, [(4, 128), (1, 512)], [1, 64], SMALL))
    assert len(set(cases)) == len(cases) == 6 * 2 * 2 + 5 * 2
    assert {(c.shape.B, c.shape.T) for c in cases if c.run == "step"} == {(1, 1), (64, 1)}


@pytest.mark.parametrize("op", [op for op in OPS if op != "attention"])
def test_what_is_timed_is_the_operation(op: Op) -> None:
    problem = make_problem(case(op, "fwd+bwd"), CPU)
    gradients = make_call(OURS, problem, "chunked")()
    assert isinstance(gradients, tuple)
    gates = {"g", "beta", "gamma"} & set(problem.gates)
    assert len(gradients) == 3 + len(gates)
    options: dict[str, Any] = {
        "linear_attention": {"rule": "additive"},
        "delta_net": {"rule": "delta"},
        "gated_delta_net": {"rule": "delta"},
        "rla": {"rule": "additive", "residual": "fit"},
        "rdn": {"rule": "delta", "residual": "fit"},
    }[op]
    o, _ = linear_attention(problem.q, problem.k, problem.v, **problem.gates, **options, backend="recurrent")
    expected = torch.autograd.grad(o, problem.differentiated, problem.do)
    for found, true in zip(gradients, expected, strict=True):
        assert (found - true).norm() < 1e-4 * true.norm()


def test_attention_is_causal_softmax() -> None:
    problem = make_problem(case("attention", "fwd"), CPU)
    (o,) = make_call("sdpa_flash", problem, "chunked")()  # type: ignore[misc]
    scores = torch.einsum("bthk,bshk->bhts", problem.q, problem.k) * 32**-0.5
    scores = scores.masked_fill(torch.ones(64, 64).triu(1).bool(), float("-inf"))
    assert torch.allclose(o, torch.einsum("bhts,bshv->bthv", scores.softmax(-1), problem.v), atol=1e-5)


def test_a_step_goes_on_in_place() -> None:
    call = make_call(OURS, make_problem(case("rdn", "step", Shape(3, 1, 2, 32, 32, "float32")), CPU), "chunked")
    (first, state), (_, again) = call(), call()  # type: ignore[misc]
    assert first.shape == (3, 2, 32)
    assert state.S is again.S


def test_percentiles_and_repeats() -> None:
    # twice the time that launching takes is filled with writes
    assert (writes(0.8, 0.1), writes(0.01, 0.1)) == (16, 1)
    timing = summarize([5.0, 1.0, 2.0, 3.0, 4.0, 6.0], 7.0)
    assert (timing.ms, timing.ms_p20, timing.ms_p80, timing.peak_mib) == (3.5, 2.0, 5.0, 7.0)
    assert repeats(0.1, 1.0) == 10
    assert repeats(10.0, 1.0) == MIN_REPEATS
    calls: list[int] = []
    measure(lambda: calls.append(1), CPU, 1e-9)
    assert len(calls) == 1 + MIN_REPEATS
    assert summarize([5.0], None) == Timing(ms=5.0, ms_p20=5.0, ms_p80=5.0, peak_mib=None)


def test_rows_are_those_of_the_contract_and_failures_do_not_stop_it() -> None:
    bad = case("rla", "fwd", Shape(1, 64, 2, 32, 32, "int32"))
    cases = [bad, case("rdn", "fwd"), case("rdn", "fwd+bwd"), case("attention", "fwd")]
    seen: list[int] = []
    content = run_benchmark(settings(cases), lambda known: seen.append(len(known["rows"]) + len(known["failures"])))
    assert seen == [1, 2, 3, 4]
    assert {"gpu", "versions", "commit", "command", "date", "rows"} <= set(content)
    assert [(row["op"], row["pass"]) for row in content["rows"]] == [
        ("rdn", "fwd"),
        ("rdn", "fwd+bwd"),
        ("attention", "fwd"),
    ]
    assert all(set(row) == CONTRACT for row in content["rows"])
    assert [row["peer"] for row in content["rows"]] == [None, None, f"torch {torch.__version__} SDPA, flash"]
    (failure,) = content["failures"]
    assert failure["op"] == "rla"
    assert failure["reason"]
    assert content["limits"]["copy_gb_per_s"] > 0


def test_nothing_begins_after_the_limit() -> None:
    content = run_benchmark(settings([case("rdn", "fwd")], limit=1e-9), lambda _: None)
    assert [failure["reason"] for failure in content["failures"]] == ["not run: out of time"]


def test_a_process_that_dies_takes_no_other_case_with_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # a package before ours on the path, whose worker dies of its first case
    package = tmp_path / "rla_exp" / "bench"
    package.mkdir(parents=True)
    (tmp_path / "rla_exp" / "__init__.py").touch()
    (package / "__init__.py").touch()
    (package / "worker.py").write_text(
        "import json, os, sys\n"
        "for line in sys.stdin:\n"
        "    op = json.loads(line)['case']['op']\n"
        "    if op == 'rla': print('no luck', file=sys.stderr, flush=True); os._exit(7)\n"
        "    print(json.dumps({'pid': os.getpid(), 'cache': os.environ.get('TRITON_CACHE_DIR')}), flush=True)\n"
    )
    monkeypatch.setattr("rla_exp.bench.processes.PACKAGE_PARENT", tmp_path)
    (peer,) = (i for i in IMPLEMENTATIONS if i.name == "fla")
    worker = Worker(peer, "cpu", "chunked", max_seconds=5)
    first = worker.warm(case("delta_net", "fwd"))
    assert first["cache"].endswith("/triton")
    assert not Path(first["cache"]).exists()
    assert worker.warm(case("delta_net", "fwd"))["pid"] == first["pid"]
    dead = worker.warm(case("rla", "fwd"))
    assert dead["failure"] == "its process ended with exit code 7, last words: no luck"
    assert worker.warm(case("delta_net", "fwd"))["pid"] != first["pid"]
    worker.close()


def test_who_is_measured_by_default() -> None:
    assert default_names(on_cpu=True, torch_alone=False) == (OURS, "sdpa_flash")
    assert default_names(on_cpu=False, torch_alone=True) == (OURS, "sdpa_flash", "sdpa_cudnn")
    assert set(default_names(on_cpu=False, torch_alone=False)) == {i.name for i in IMPLEMENTATIONS}


def test_peers_are_labelled_and_grouped() -> None:
    ours, flash = named(["sdpa_flash", OURS])
    assert ours.label is None
    assert flash.label == f"torch {torch.__version__} SDPA, flash"
    (fla,) = named(["fla"])
    assert fla.environment == {"FLA_FLASH_QLA": "0"}
    other = case("gated_delta_net", "fwd", Shape(2, 64))
    assert fla.group_of(other) != fla.group_of(case("gated_delta_net", "fwd"))
    assert not fla.computes(case("rdn", "fwd"))
