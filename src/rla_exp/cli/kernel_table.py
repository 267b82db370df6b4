"""The table of kernel times: taken here for the CPU's backends, read from benchmarks/ for GPUs."""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from rla_exp.bench.cases import OPTIONS, Op
from rla_exp.errors import UserError
from rla_exp.report.kernel_figure import draw_kernels
from rla_exp.report.kernel_formats import kernel_files
from rla_exp.report.kernel_spec import CpuTimes, KernelSpec
from rla_exp.report.kernel_table import read_kernel_table
from rla_exp.report.write import check_writable, write_files
from rla_exp.runs import describe_commit, sources_hash
from rla_exp.runs.environment import device_name
from rla_exp.runs.files import read_json, write_json

if TYPE_CHECKING:
    from torch import Tensor

SECONDS_A_TIME = 4.0
"""Repeats end early after so long, but not before two."""


def make_kernel_table(spec: KernelSpec, *, runs: Path, results: Path, benchmarks: Path, measures: bool = True) -> None:
    """Take the times that are missing, write the table, print it.

    Args:
        spec: the table at a scale.
        runs: where this CPU's times are kept.
        results: the table goes to <results>/<table>/<scale>.
        benchmarks: where GPUs' times are.
        measures: whether missing times of this CPU are taken; otherwise they are an error.

    Raises:
        UserError: the table's folder cannot be written, or there are no times for it.
    """
    folder = results / spec.name / spec.scale
    check_writable(folder)
    times = spec.at_scale.times
    files = (
        [_time_here(spec, times, runs, measures=measures)]
        if isinstance(times, CpuTimes)
        else sorted(benchmarks.glob("*.json"))
    )
    table = read_kernel_table(spec, files)
    write_files(folder, kernel_files(table), draw_kernels(table))
    print()
    print((folder / "table.md").read_text(encoding="utf-8"))
    print("written:", *(str(path) for path in sorted(folder.iterdir())), sep="\n  ")


def num_times(spec: KernelSpec, times: CpuTimes) -> int:
    """How many times the table needs."""
    return len(list(_cases(spec, times)))


def _cases(spec: KernelSpec, times: CpuTimes) -> Iterator[tuple[str, str | None, str, int]]:
    """Operation, backend (None: PyTorch's attention), pass and length."""
    for length in times.lengths:
        for op in spec.file.ops:
            backends = [None] if op == "attention" else ["chunked", "recurrent"]
            for backend in backends:
                if backend != "recurrent" or length <= times.recurrent_up_to:
                    yield from ((op, backend, run, length) for run in spec.file.passes)


def _time_here(spec: KernelSpec, times: CpuTimes, runs: Path, *, measures: bool) -> Path:
    """The file of times for these settings, sources and this processor, with every time in it.

    It is written after each one, so that the same call goes on after an interruption.

    Raises:
        UserError: times are missing and `measures` is false.
    """
    # imported here: it takes seconds
    import torch

    torch.set_num_threads(1)
    device = device_name("cpu")
    identity = hashlib.sha256(f"{times!r} {sources_hash()} {device} {torch.__version__}".encode()).hexdigest()
    file = runs / "kernels" / f"{spec.scale}-{identity[:8]}" / "benchmark.json"
    content = read_json(file) or {
        "gpu": device,
        "versions": {"torch": torch.__version__},
        "commit": describe_commit(),
        "command": f"rla-table table={spec.name} scale={spec.scale}",
        "date": time.strftime("%Y-%m-%d"),
        "rows": [],
    }
    rows: list[dict[str, Any]] = content["rows"]
    cases = list(_cases(spec, times))
    known = {(row["op"], row["backend"], row["pass"], row["T"]) for row in rows}
    missing = len(set(cases) - known)
    if not measures and missing:
        raise UserError(
            f"{missing} of {len(cases)} times of these sources on {device} are not in {file.parent}: "
            "leave train=false out to take them"
        )
    for number, case in enumerate(cases, start=1):
        if case in known:
            continue
        row = _time(case, times)
        rows.append(row)
        file.parent.mkdir(parents=True, exist_ok=True)
        write_json(file, content)
        name = f"{row['op']} {row['backend'] or row['peer']} {row['pass']} {row['T']}"
        print(f"[{number}/{len(cases)}] {name}: {row['ms']:.3g} ms", file=sys.stderr, flush=True)
    return file


def _time(case: tuple[str, str | None, str, int], times: CpuTimes) -> dict[str, Any]:
    import torch

    from rla_exp.bench.timing import summarize

    op, backend, run, length = case
    call = _call(op, backend, run, length, times)
    call()
    taken: list[float] = []
    started = time.perf_counter()
    while len(taken) < times.repeats and (len(taken) < 2 or time.perf_counter() - started < SECONDS_A_TIME):
        before = time.perf_counter()
        call()
        taken.append((time.perf_counter() - before) * 1000)
    # a process's peak memory says nothing of one call
    timing = summarize(taken, peak_mib=None)
    return {
        "op": op,
        "peer": None if backend else f"PyTorch {torch.__version__}",
        "backend": backend,
        "pass": run,
        "B": times.batch_size,
        "T": length,
        "H": times.num_heads,
        "K": times.head_dim,
        "V": times.head_dim,
        "dtype": "float32",
        **asdict(timing),
    }


def _call(op: str, backend: str | None, run: str, length: int, times: CpuTimes) -> Callable[[], object]:
    """What is timed."""
    import torch
    from torch.nn.functional import logsigmoid, normalize, scaled_dot_product_attention

    from rla_exp.kernels import linear_attention

    generator = torch.Generator().manual_seed(0)
    gates = (times.batch_size, length, times.num_heads)
    vectors = (*gates, times.head_dim)
    q, k, v = (torch.randn(vectors, generator=generator) for _ in range(3))
    g, beta, gamma = (torch.randn(gates, generator=generator) for _ in range(3))
    inputs: dict[str, Tensor] = {"q": normalize(q, dim=-1), "k": normalize(k, dim=-1), "v": v}
    if op not in ("attention", "delta_net"):
        inputs["g"] = logsigmoid(g + 3)
    if op != "attention":
        inputs["beta"] = beta.sigmoid()
    if op in ("rla", "rdn"):
        inputs["gamma"] = gamma.sigmoid()
    differentiated = run == "fwd+bwd"
    inputs = {name: tensor.requires_grad_(differentiated) for name, tensor in inputs.items()}

    def forward() -> Tensor:
        if op == "attention":
            q, k, v = (inputs[name].transpose(1, 2) for name in ("q", "k", "v"))
            return scaled_dot_product_attention(q, k, v, is_causal=True)
        arguments: dict[str, Any] = {**inputs, **OPTIONS[cast(Op, op)], "backend": backend}
        return linear_attention(**arguments)[0]

    if differentiated:
        return lambda: torch.autograd.grad(forward().sum(), list(inputs.values()))
    return forward
