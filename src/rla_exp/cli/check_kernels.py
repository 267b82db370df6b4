"""`check_kernels.py`: a backend against the definition in float64, over options, sizes, dtypes, lengths and values."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from rla_exp.kernels.verify.backends import NAMES
from rla_exp.kernels.verify.cases import all_cases, quick_cases
from rla_exp.kernels.verify.report import read_passed, write_report
from rla_exp.kernels.verify.workers import check_all
from rla_exp.runs import describe_commit, sources_hash


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; exit code 1 when a case is beyond its bounds or was not run."""
    arguments = sys.argv[1:] if arguments is None else arguments
    settings = _parse(arguments)
    cases = quick_cases() if settings.quick else all_cases()
    # the other backends have nothing to choose
    cases = [case for case in cases if settings.backend == "triton" or not case.candidate]
    cases = [case for case in cases if all(word in case.name for word in settings.only)]
    if not cases:
        print(f"no case has {' and '.join(map(repr, settings.only))} in its name")
        return 1
    device = _device_name(settings.device)
    out = settings.out or Path("benchmarks", "correctness", device.lower().replace(" ", "-"))
    about = {
        "gpu": device,
        "backend": settings.backend,
        "versions": _versions(settings.device),
        "commit": settings.commit or describe_commit(),
        "sources": sources_hash(("kernels",))[:12],
        "command": shlex.join(["scripts/check_kernels.py", *_without_places(arguments)]),
        "date": time.strftime("%Y-%m-%d"),
    }
    passed, seconds = read_passed(out, about, cases) if settings.resume else ({}, 0.0)
    results = [passed[case.name] for case in cases if case.name in passed]
    left = [case for case in cases if case.name not in passed]
    start = time.monotonic()
    for result in check_all(left, settings.backend, settings.device, jobs=settings.jobs, limit=settings.limit):
        results.append(result)
        for failure in result.failures:
            print(f"{result.name}: {failure}", flush=True)
    seconds += time.monotonic() - start
    order = {case.name: n for n, case in enumerate(cases)}
    results.sort(key=lambda result: order[result.name])
    write_report(out, {**about, "seconds": round(seconds)}, cases, results)
    failed = sum(bool(result.failures) for result in results)
    print(f"{len(results)} cases, {failed} failed, {seconds:.0f} s; {out}.md")
    return int(failed > 0)


def _without_places(arguments: Sequence[str]) -> Iterator[str]:
    """What was asked for, without where the files go and what the commit is called: no part of what was measured."""
    words = iter(arguments)
    for word in words:
        if word in ("--out", "--commit"):
            next(words, None)
        elif not word.startswith(("--out=", "--commit=")):
            yield word


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="check_kernels.py", description=__doc__)
    cuda = torch.cuda.is_available()
    parser.add_argument("--quick", action="store_true", help="the defaults of the models and a few scenarios only")
    parser.add_argument("--backend", choices=NAMES, default="triton", help="default triton")
    parser.add_argument("--device", default="cuda" if cuda else "cpu", help="default: the GPU where there is one")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes; default one a core")
    parser.add_argument("--only", nargs="*", default=[], metavar="TEXT", help="cases whose name has all of these")
    parser.add_argument("--limit", type=float, metavar="SECONDS", help="begin no case after this time")
    parser.add_argument(
        "--resume",
        action="store_true",
        help="keep what passed in the report that is there, of the same sources and GPU",
    )
    parser.add_argument("--out", type=Path, metavar="PATH", help="default benchmarks/correctness/<gpu> (.json and .md)")
    parser.add_argument("--commit", help="recorded in the report; default: of the checkout")
    return parser.parse_args(arguments)


def _device_name(device: str) -> str:
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else "cpu"


def _versions(device: str) -> dict[str, Any]:
    versions: dict[str, Any] = {"python": sys.version.split()[0], "torch": torch.__version__}
    if device.startswith("cuda"):
        # Triton is not everywhere
        from rla_exp.kernels.triton.assembler import use_installed_assembler
        from rla_exp.kernels.triton.stored import environment

        use_installed_assembler()
        ptxas = environment(torch.device(device).index or 0)["ptxas"]
        versions |= {"cuda": torch.version.cuda, "triton": version("triton"), "ptxas": ptxas}
    return versions
