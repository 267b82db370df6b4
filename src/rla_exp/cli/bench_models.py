"""`rla-bench models=true`: throughput and memory of training whole models, beside the transformer."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from rla_exp.cli.key_values import Key, positive, whole_number, yes_or_no
from rla_exp.config import conf_dir
from rla_exp.config.catalog import read_catalog
from rla_exp.config.schema import ModelName
from rla_exp.errors import UserError
from rla_exp.runs import describe_commit
from rla_exp.runs.files import expand_home

MODELS: tuple[str, ...] = get_args(ModelName)
SIZES = tuple(name for name in read_catalog(conf_dir()).options["size"] if name != "for_model")
LENGTHS = (2048, 4096, 8192, 16384, 32768)


def _some_of(allowed: Sequence[str]) -> Callable[[str], tuple[str, ...]]:
    def read(text: str) -> tuple[str, ...]:
        chosen = tuple(text.split(","))
        if not set(chosen) <= set(allowed) or len(set(chosen)) < len(chosen):
            raise ValueError(text)
        return chosen

    return read


def _lengths(text: str) -> tuple[int, ...]:
    return tuple(whole_number(word) for word in text.split(","))


KEYS = {
    "models": Key(yes_or_no, "true or false", "training steps of whole models instead of kernels"),
    "names": Key(_some_of(MODELS), f"some of {','.join(MODELS)}", "which models; default all"),
    "sizes": Key(_some_of(SIZES), f"some of {','.join(SIZES)}", "default base,1p5b"),
    "lengths": Key(_lengths, "like 2048,8192", "tokens of a sequence; default 2048 to 32768"),
    "batch_tokens": Key(whole_number, "a whole number from 1 on", "default 32,768, of 1p5b 8,192, or one sequence"),
    "steps": Key(whole_number, "a whole number from 1 on", "timed steps; default 10"),
    "compile": Key(yes_or_no, "true or false", "blocks and loss by torch.compile; default false"),
    "device": Key(_some_of(("cuda", "cpu")), "cuda or cpu", "default cuda"),
    "gpus": Key(
        whole_number, "a whole number from 1 on", "measure so many models side by side, each on a GPU; default 1"
    ),
    "limit": Key(positive, "a number above 0", "begin no model after so many seconds; default none"),
    "out": Key(expand_home, "a folder", "the files are <out>/models/<gpu>.json, .md, .png, .svg; default benchmarks"),
    "commit": Key(str, "text", "recorded; default that of the checkout"),
}


@dataclass(frozen=True, kw_only=True)
class ModelBenchCommand:
    """The settings of the command; see KEYS."""

    models: bool = True
    names: tuple[str, ...] = MODELS
    sizes: tuple[str, ...] = ("base", "1p5b")
    lengths: tuple[int, ...] = LENGTHS
    batch_tokens: int | None = None
    steps: int = 10
    compile: bool = False
    device: tuple[str, ...] = ("cuda",)
    gpus: int = 1
    limit: float | None = None
    out: Path = Path("benchmarks")
    commit: str | None = None


def bench_models(settings: ModelBenchCommand, arguments: Sequence[str]) -> None:
    """Measure and write.

    Raises:
        UserError: there is no GPU, or nothing could be measured.
    """
    # imported here: they bring torch
    import torch

    from rla_exp.bench.model_files import write_model_benchmark
    from rla_exp.bench.models import ModelBenchSettings, run_model_benchmark
    from rla_exp.bench.write import write_content

    (device,) = settings.device
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("device=cuda: no CUDA GPU here; device=cpu takes size=tiny in seconds")
    if device == "cpu" and settings.gpus > 1:
        raise UserError(f"gpus={settings.gpus}: device=cpu has none, and times models one after the other")
    if device == "cuda" and settings.gpus > torch.cuda.device_count():
        raise UserError(f"gpus={settings.gpus}: there are {torch.cuda.device_count()} here")
    names = {torch.cuda.get_device_name(index) for index in range(settings.gpus)} if device == "cuda" else set()
    if len(names) > 1:
        raise UserError(
            f"gpus={settings.gpus}: their times go into one table, and they differ: {', '.join(sorted(names))}"
        )
    folder = settings.out / "models"

    def on_row(content: dict[str, Any], row: dict[str, Any]) -> None:
        write_content(content, folder)
        outcome = f"FAILED: {row['reason']}" if "reason" in row else f"{row['tokens_per_s']:,.0f} tokens/s"
        print(f"{row['model']} {row['size']} B{row['B']} T{row['T']}: {outcome}", file=sys.stderr, flush=True)

    content = run_model_benchmark(
        ModelBenchSettings(
            models=settings.names,
            sizes=settings.sizes,
            lengths=settings.lengths,
            batch_tokens=settings.batch_tokens,
            steps=settings.steps,
            compile=settings.compile,
            device=device,
            gpus=settings.gpus,
            limit=settings.limit,
            command=shlex.join(["rla-bench", *(w for w in arguments if not w.startswith(("out=", "commit=")))]),
            commit=settings.commit or describe_commit(),
        ),
        on_row,
    )
    paths = write_model_benchmark(content, folder)
    print("written:", *map(str, paths), sep="\n  ")
    if not content["rows"]:
        raise UserError(f"nothing was measured; {paths[0]} has the reasons of {len(content['failures'])} cases")
