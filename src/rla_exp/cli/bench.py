"""`rla-bench`: run time and memory of the kernels, beside the peers that are installed, and of training models."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast

from rla_exp.bench.cases import FULL, ON_CPU, OPS, PASSES, QUICK, QUICK_OPS, STEP_BATCHES, Op, Pass, Shape, all_cases
from rla_exp.bench.implementations import NAMES, default_names, named
from rla_exp.cli.bench_models import KEYS as MODEL_KEYS
from rla_exp.cli.bench_models import ModelBenchCommand, bench_models
from rla_exp.cli.key_values import Key, describe_keys, read_key_values, whole_number, yes_or_no
from rla_exp.cli.outcome import exit_code
from rla_exp.errors import UserError
from rla_exp.runs import describe_commit
from rla_exp.runs.files import expand_home

DTYPES = ("bfloat16", "float16", "float32")
BACKENDS = ("triton", "chunked", "recurrent")
Name = TypeVar("Name", bound=str)


def _some_of(allowed: Sequence[Name]) -> Callable[[str], tuple[Name, ...]]:
    def read(text: str) -> tuple[Name, ...]:
        chosen = tuple(text.split(","))
        if not set(chosen) <= set(allowed) or len(set(chosen)) < len(chosen):
            raise ValueError(text)
        return cast(tuple[Name, ...], chosen)

    return read


def _one_of(allowed: Sequence[str]) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in allowed:
            raise ValueError(text)
        return text

    return read


def _sequences(text: str) -> tuple[tuple[int, int], ...]:
    """4x8192,1x32768: sequences times tokens."""
    found = []
    for word in text.split(","):
        B, _, T = word.partition("x")
        found.append((whole_number(B), whole_number(T)))
    return tuple(found)


def _seconds(text: str) -> float:
    number = float(text)
    if not 0 < number < float("inf"):
        raise ValueError(text)
    return number


KEYS = {
    "quick": Key(
        yes_or_no,
        "true or false",
        f"{', '.join(QUICK_OPS)} at {', '.join(f'{B}x{T}' for B, T in QUICK)}, without other packages",
    ),
    "ops": Key(_some_of(OPS), f"some of {','.join(OPS)}", "what to measure; default all"),
    "passes": Key(_some_of(PASSES), f"some of {','.join(PASSES)}", "default all"),
    "by": Key(_some_of(NAMES), f"some of {','.join(NAMES)}", "who computes; default all that are installed"),
    "shapes": Key(_sequences, "like 4x8192,1x32768", "sequences and tokens; default 32,768 tokens, and longer"),
    "heads": Key(whole_number, "a whole number from 1 on", "default 16, on a CPU 4"),
    "head_dim": Key(whole_number, "a whole number from 1 on", "K and V; default 128, on a CPU 64"),
    "dtype": Key(_one_of(DTYPES), f"one of {', '.join(DTYPES)}", "of q, k and v; default bfloat16, on a CPU float32"),
    "device": Key(_one_of(("cuda", "cpu")), "cuda or cpu", "default cuda"),
    "backend": Key(_one_of(BACKENDS), f"one of {', '.join(BACKENDS)}", "of ours; default triton, on a CPU chunked"),
    "seconds": Key(_seconds, "a number above 0", "repeats of a case take about so long; default 0.5, quick 0.2"),
    "limit": Key(_seconds, "a number above 0", "begin no case after so many seconds; default none"),
    "out": Key(expand_home, "a folder", "the files are <out>/<gpu>.json, .md, .png and .svg; default benchmarks"),
    "commit": Key(str, "text", "recorded; default that of the checkout"),
    "models": Key(yes_or_no, "true or false", "false: the kernels alone"),
}
ONLY_KERNELS, ONLY_MODELS = KEYS.keys() - MODEL_KEYS.keys(), MODEL_KEYS.keys() - KEYS.keys()

HELP = f"""Measure run time and memory of the kernels, and of the peers that are installed; then of training models.

usage: rla-bench [key=value ...]

A setting goes to what has it, one that both have to both. With settings of the kernels alone, or models=false, only the
kernels are measured; with settings of the models alone, or models=true, only the models.

kernels:

{describe_keys(KEYS)}

models:

{describe_keys(MODEL_KEYS)}"""


@dataclass(frozen=True, kw_only=True)
class BenchCommand:
    """The settings of the command; see KEYS."""

    quick: bool = False
    ops: tuple[Op, ...] | None = None
    passes: tuple[Pass, ...] = PASSES
    by: tuple[str, ...] | None = None
    shapes: tuple[tuple[int, int], ...] | None = None
    heads: int | None = None
    head_dim: int | None = None
    dtype: str | None = None
    device: str = "cuda"
    backend: str | None = None
    seconds: float | None = None
    limit: float | None = None
    out: Path = Path("benchmarks")
    commit: str | None = None
    models: bool = False


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if {"-h", "--help", "help"} & set(arguments):
        print(HELP)
        return 0
    return exit_code(lambda: bench_all(arguments))


def bench_all(arguments: Sequence[str]) -> None:
    """Measure the kernels, the models, or one after the other, as the settings say.

    Raises:
        UserError: there is no GPU, nothing to measure, or nothing could be measured; the models come only after kernels
            that could be measured.
    """
    of_kernels, of_models = divide_settings(arguments)
    # all settings are read before hours of measuring
    parts: list[Callable[[], None]] = []
    if of_kernels is not None:
        parts.append(partial(bench, BenchCommand(**read_key_values(of_kernels, KEYS)), of_kernels))
    if of_models is not None:
        parts.append(partial(bench_models, ModelBenchCommand(**read_key_values(of_models, MODEL_KEYS)), of_models))
    for measure in parts:
        measure()


def divide_settings(arguments: Sequence[str]) -> tuple[list[str] | None, list[str] | None]:
    """The settings of the kernels and those of the models; None for what is not to be measured.

    Each of the two lists asks, as a command of its own, for that one measurement.

    Raises:
        ConfigError: both are to be measured, and a setting is known to neither or cannot be.
    """
    words = list(arguments)
    values = {name: value for name, _, value in (word.partition("=") for word in words) if value}
    if "models" in values:
        return (None, words) if values["models"].lower() == "true" else (words, None)
    of_one, of_other = bool(values.keys() & ONLY_KERNELS), bool(values.keys() & ONLY_MODELS)
    if of_one and not of_other:
        return words, None
    if of_other and not of_one:
        return None, ["models=true", *words]
    # here, so that the answer knows the settings of both
    read_key_values(words, {**MODEL_KEYS, **KEYS})
    of_kernels = [word for word in words if word.partition("=")[0] not in ONLY_MODELS]
    of_models = [word for word in words if word.partition("=")[0] not in ONLY_KERNELS]
    return (of_kernels if of_one else ["models=false", *of_kernels]), ["models=true", *of_models]


def bench(settings: BenchCommand, arguments: Sequence[str]) -> None:
    """Measure and write.

    Raises:
        UserError: there is no GPU, nothing to measure, or nothing could be measured.
    """
    # imported here: they bring torch
    import torch

    from rla_exp.bench.run import BenchSettings, run_benchmark
    from rla_exp.bench.write import write_benchmark, write_content

    on_cpu = settings.device == "cpu"
    if not on_cpu and not torch.cuda.is_available():
        raise UserError("device=cuda: no CUDA GPU here; device=cpu times the CPU's backends")
    if on_cpu and settings.backend == "triton":
        raise UserError("backend=triton: the fused kernels need device=cuda; allowed: chunked, recurrent")
    ops = settings.ops or (QUICK_OPS if settings.quick else OPS)
    sequences = settings.shapes or (ON_CPU if on_cpu else QUICK if settings.quick else FULL)
    head_dim = settings.head_dim or (64 if on_cpu else 128)
    like = Shape(
        B=1,
        T=1,
        H=settings.heads or (4 if on_cpu else 16),
        K=head_dim,
        V=head_dim,
        dtype=settings.dtype or ("float32" if on_cpu else "bfloat16"),
    )
    batches = STEP_BATCHES[-1:] if settings.quick else STEP_BATCHES
    cases = list(all_cases(ops, settings.passes, sequences, batches, like))
    by = settings.by or default_names(on_cpu=on_cpu, torch_alone=settings.quick)
    missing = [name for name in by if settings.by and not named([name])[0].is_installed]
    if missing:
        raise UserError(f"by={','.join(by)}: not installed here: {', '.join(missing)}")
    shown = 0

    def on_row(content: dict[str, Any]) -> None:
        nonlocal shown
        write_content(content, settings.out)
        if len(content["rows"]) > shown:
            shown = len(content["rows"])
            row = content["rows"][-1]
            outcome = f"{row['ms']:.4g} ms"
        else:
            row = content["failures"][-1]
            outcome = f"FAILED: {row['reason']}"
        who = row["peer"] or "ours"
        print(f"{row['op']} {row['pass']} B{row['B']} T{row['T']}, {who}: {outcome}", file=sys.stderr, flush=True)

    content = run_benchmark(
        BenchSettings(
            cases=cases,
            implementations=by,
            device=settings.device,
            backend=settings.backend or ("chunked" if on_cpu else "triton"),
            seconds=settings.seconds or (0.2 if settings.quick else 0.5),
            limit=settings.limit,
            # where the files go is no part of what was measured
            command=shlex.join(
                ["rla-bench", *(word for word in arguments if not word.startswith(("out=", "commit=")))]
            ),
            commit=settings.commit or describe_commit(),
        ),
        on_row,
    )
    paths = write_benchmark(content, settings.out)
    print("written:", *map(str, paths), sep="\n  ")
    if not content["rows"]:
        raise UserError(f"nothing was measured; {paths[0]} has the reasons of {len(content['failures'])} cases")


if __name__ == "__main__":
    sys.exit(main())
