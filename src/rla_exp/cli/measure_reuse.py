"""`measure_reuse.py`: what the shared prefixes of choices save, on untrained models and random tokens, on the CPU."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Sequence

from rla_exp.cli.key_values import Key, describe_keys, read_key_values, whole_number
from rla_exp.cli.outcome import exit_code
from rla_exp.errors import UserError


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))


DEFAULT_CONTINUATION = 12
# of malloc.h: nothing from the system by itself, and nothing back to it
MALLOPT = {"M_MMAP_MAX": (-4, 0), "M_TRIM_THRESHOLD": (-1, 2**31 - 1)}

KEYS = {
    "models": Key(_names, "files of conf/model, separated by commas", "which; default rla,rdn,transformer"),
    "size": Key(str, "a file of conf/size", "default small"),
    "questions": Key(whole_number, "a whole number from 1 on", "default 16"),
    "choices": Key(whole_number, "a whole number from 1 on", "of each question; default 4"),
    "context": Key(whole_number, "a whole number from 1 on", "tokens of a question, about; default 480"),
    "continuation": Key(
        whole_number, "a whole number from 2 on", f"tokens of a choice, about; default {DEFAULT_CONTINUATION}"
    ),
    "ratio": Key(
        whole_number, "a whole number from 1 on", "a question is so many times as long as a choice, or longer"
    ),
    "batch_size": Key(whole_number, "a whole number from 1 on", "rows at a time; default 32"),
}

HELP = f"""Time the scoring of multiple-choice questions with and without reuse of the state after the question.

usage: python scripts/measure_reuse.py [key=value ...]

{describe_keys(KEYS)}"""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if {"-h", "--help", "help"} & set(arguments):
        print(HELP)
        return 0
    return exit_code(lambda: measure(**read_key_values(arguments, KEYS)))


def keep_freed_memory() -> None:
    """Have glibc keep what is freed: else either way of reading takes, by chance, 200,000 page faults or none."""
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        for parameter, value in MALLOPT.values():
            library.mallopt(parameter, value)


def measure(
    *,
    models: Sequence[str] = ("rla", "rdn", "transformer"),
    size: str = "small",
    questions: int = 16,
    choices: int = 4,
    context: int = 480,
    continuation: int | None = None,
    ratio: int | None = None,
    batch_size: int = 32,
) -> None:
    """Print a row for each model."""
    import torch

    from rla_exp.config import compose
    from rla_exp.eval.reuse import choice_requests, measure_reuse
    from rla_exp.models import build_model

    if ratio is not None and continuation is not None:
        raise UserError("ratio and continuation both say how long choices are; leave one out")
    torch.set_num_threads(1)
    keep_freed_memory()
    requests = choice_requests(
        257,
        num_questions=questions,
        num_choices=choices,
        context=context,
        continuation=DEFAULT_CONTINUATION if continuation is None else continuation,
        ratio=ratio,
    )
    print("| model | with reuse, s | without, s | times faster | largest difference, nats a token |")
    print("|---|---|---|---|---|")
    for name in models:
        config = compose([f"model={name}", f"size={size}"]).config.model
        found = measure_reuse(build_model(config, 257, seed=0).eval(), requests, batch_size=batch_size)
        numbers = f"{found.seconds_reused:.2f} | {found.seconds_repeated:.2f} | {found.speedup:.2f}"
        print(f"| {name} | {numbers} | {found.largest_difference:.1e} |", flush=True)


if __name__ == "__main__":
    sys.exit(main())
