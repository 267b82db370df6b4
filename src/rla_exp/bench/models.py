"""Training steps of whole models: which are measured, each model in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from queue import SimpleQueue
from typing import Any

from rla_exp.bench.processes import PACKAGE_PARENT
from rla_exp.bench.run import Content, versions
from rla_exp.runs.environment import device_name

BATCH_TOKENS = {"1p5b": 8192}
"""Of a batch, by size, as far as one sequence is not longer; others: OTHER_BATCH_TOKENS."""
OTHER_BATCH_TOKENS = 32768
VOCAB_SIZE = 32768
"""For sizes that leave it to the data."""
PEAK_TFLOP_PER_S = {"H100": 989.4, "H200": 989.4}
"""What the data sheets say of dense bfloat16 products (SXM), by a part of the device's name."""
MAX_SECONDS = 300.0
"""For all lengths of one model, compilation included."""


@dataclass(frozen=True, kw_only=True)
class ModelCase:
    """Steps of one model at one length."""

    model: str
    size: str
    B: int
    T: int
    precision: str
    """bf16-mixed or 32."""
    compile: bool
    """Blocks and loss by torch.compile, as trainer.compile=true has them."""


@dataclass(frozen=True, kw_only=True)
class ModelBenchSettings:
    """What a benchmark of models measures."""

    models: Sequence[str]
    sizes: Sequence[str]
    lengths: Sequence[int]
    batch_tokens: int | None
    """None: by size."""
    steps: int
    """Timed steps, after as many as it takes to compile and warm up."""
    device: str
    limit: float | None
    """Begin no model after so many seconds."""
    command: str
    commit: str
    compile: bool = False
    gpus: int = 1
    """On so many, models are measured side by side, each on one of its own."""
    max_seconds: float = MAX_SECONDS


def cases_of(settings: ModelBenchSettings, model: str, size: str) -> list[ModelCase]:
    """A model's cases, the shortest sequences first."""
    tokens = settings.batch_tokens or BATCH_TOKENS.get(size, OTHER_BATCH_TOKENS)
    precision = "bf16-mixed" if settings.device == "cuda" else "32"
    return [
        ModelCase(model=model, size=size, B=max(1, tokens // T), T=T, precision=precision, compile=settings.compile)
        for T in sorted(settings.lengths)
    ]


def run_model_benchmark(settings: ModelBenchSettings, on_row: Callable[[Content, Content], None]) -> Content:
    """Measure every model at every length.

    Args:
        on_row: called after every case with what is known so far, and with the case's row.

    Returns:
        The content of benchmarks/models/<gpu>.json: `rows` with ms (median of a step, 20th and 80th percentile),
        tokens_per_s, tflop_per_s (by 3 times the operations of a forward pass), mfu (of the data sheet's rate; null
        where that is not known here) and peak_mib, and `failures` with a reason.
    """
    start = time.monotonic()
    name = device_name(settings.device)
    content: Content = {
        "gpu": name,
        "versions": versions(settings.device),
        "commit": settings.commit,
        "command": settings.command,
        "date": time.strftime("%Y-%m-%d"),
        "steps": settings.steps,
        "gpus": settings.gpus,
        "peak_tflop_per_s": next((rate for part, rate in PEAK_TFLOP_PER_S.items() if part in name), None),
        "rows": [],
        "failures": [],
    }
    jobs = [cases_of(settings, model, size) for size in settings.sizes for model in settings.models]
    free: SimpleQueue[str] = SimpleQueue()
    for gpu in visible_gpus(settings.gpus):
        free.put(gpu)

    def measure(cases: Sequence[ModelCase]) -> list[dict[str, Any]]:
        if settings.limit is not None and time.monotonic() - start > settings.limit:
            return [{"failure": "not run: out of time"} for _ in cases]
        gpu = free.get()
        try:
            return _measure(cases, settings, gpu)
        finally:
            free.put(gpu)

    with ThreadPoolExecutor(settings.gpus) as pool:
        running = {pool.submit(measure, cases): cases for cases in jobs}
        try:
            for done in as_completed(running):
                for case, reply in zip(running[done], done.result(), strict=True):
                    on_row(content, _add(content, case, reply))
        except BaseException:
            # leaving the pool would first measure all that waits
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    # as asked for, whichever was done first
    order = [asdict(case) for cases in jobs for case in cases]
    for part in ("rows", "failures"):
        content[part].sort(key=lambda row: order.index({name: row[name] for name in order[0]}))
    return content


def visible_gpus(count: int) -> list[str]:
    """The first of those that this process sees, as CUDA_VISIBLE_DEVICES names them."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return named.split(",")[:count] if named else [str(index) for index in range(count)]


def _add(content: Content, case: ModelCase, reply: dict[str, Any]) -> dict[str, Any]:
    if "failure" in reply:
        row = {**asdict(case), "reason": reply["failure"]}
        content["failures"].append(row)
        return row
    tokens_per_s = 1000 * case.B * case.T / reply["ms"]
    rate = reply.pop("flop_per_token") * tokens_per_s / 1e12
    peak = content["peak_tflop_per_s"]
    mfu = None if peak is None else rate / peak
    row = {**asdict(case), **reply, "tokens_per_s": tokens_per_s, "tflop_per_s": rate, "mfu": mfu}
    content["rows"].append(row)
    return row


def _measure(cases: Sequence[ModelCase], settings: ModelBenchSettings, gpu: str) -> list[dict[str, Any]]:
    """A process's answers, one for each case; when it dies, why."""
    request = {"cases": [asdict(case) for case in cases], "steps": settings.steps, "device": settings.device}
    paths = [str(PACKAGE_PARENT), *filter(None, [os.environ.get("PYTHONPATH")])]
    try:
        done = subprocess.run(
            [sys.executable, "-m", "rla_exp.bench.model_worker"],
            input=json.dumps(request),
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "CUDA_VISIBLE_DEVICES": gpu},
            capture_output=True,
            text=True,
            timeout=settings.max_seconds,
            check=False,
        )
        output, words = done.stdout, done.stderr.strip().splitlines()
        reason = f"its process ended with exit code {done.returncode}" + (f": {words[-1]}" if words else "")
    except subprocess.TimeoutExpired as late:
        output = late.stdout.decode() if isinstance(late.stdout, bytes) else late.stdout or ""
        reason = f"no result after {settings.max_seconds:g} s"
    replies = [json.loads(line) for line in output.splitlines()]
    missing = [{"failure": reason}, *[{"failure": "its process had ended"}] * len(cases)]
    return replies + missing[: len(cases) - len(replies)]
