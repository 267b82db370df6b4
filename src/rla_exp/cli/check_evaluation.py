"""`check_evaluation.py`: lm-eval's own adapter, on the exported model, must say what our adapter says."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from rla_exp.cli.key_values import Key, describe_keys, read_key_values, whole_number
from rla_exp.cli.outcome import exit_code
from rla_exp.errors import ConfigError, UserError
from rla_exp.runs.files import expand_home

if TYPE_CHECKING:
    from rla_exp.eval.agreement import TaskAgreement

TOLERANCE = 1e-4
"""Nats a token, on average over a task; of float32."""


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))


KEYS = {
    "run": Key(expand_home, "a run's folder, trained on text", "which run"),
    "tasks": Key(_names, "names of lm-eval's, separated by commas", "which tasks; default those of eval=smoke"),
    "data_dir": Key(expand_home, "a folder", "local files of the tasks, as for rla-evaluate"),
    "window": Key(whole_number, "a whole number from 1 on", "tokens that are seen at most; default as in training"),
    "limit": Key(whole_number, "a whole number from 1 on", "documents of each task; default all"),
    "batch_size": Key(whole_number, "a whole number from 1 on", "rows at a time, of both; default 16"),
}

HELP = f"""Ask our adapter of lm-eval, and lm-eval's own on the exported model, the same, in float32 on the CPU.

usage: python scripts/check_evaluation.py run=RUN_DIR [key=value ...]

{describe_keys(KEYS)}

Exit code 1: they differ by more than {TOLERANCE:g} nats a token on average over a task, or in a text that was
generated."""


@dataclass(frozen=True, kw_only=True)
class CheckSettings:
    """The settings of the command; see KEYS."""

    run: Path
    tasks: tuple[str, ...] | None = None
    data_dir: Path | None = None
    window: int | None = None
    limit: int | None = None
    batch_size: int = 16


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if {"-h", "--help", "help"} & set(arguments):
        print(HELP)
        return 0
    return exit_code(lambda: check(_settings(arguments)))


def _settings(arguments: Sequence[str]) -> CheckSettings:
    values = read_key_values(arguments, KEYS)
    if "run" not in values:
        raise ConfigError(["run: nothing sets it; write run=RUN_DIR"])
    return CheckSettings(**values)


def check(settings: CheckSettings) -> None:
    """Compare the two and print how far they differ.

    Raises:
        UserError: a setting or the run cannot be used, or the two differ: by more than TOLERANCE, or in a generated
            text.
    """
    found = _compare(settings)
    _show(found)
    apart = [task.task for task in found if not task.mean_difference <= TOLERANCE]
    problems = [f"more than {TOLERANCE:g} nats a token apart on average: {', '.join(apart)}"] if apart else []
    # of generated texts there are no nats to compare
    other = [task for task in found if not task.num_tokens and task.num_other_answers]
    problems += [
        f"{task.task}: {task.num_other_answers} of {task.num_requests} generated texts are others" for task in other
    ]
    if problems:
        raise UserError("\n".join(problems))


def _compare(settings: CheckSettings) -> list[TaskAgreement]:
    # all of torch, transformers and lm-eval: a misspelt setting is answered before
    from rla_exp.eval.adapter import RlaLM
    from rla_exp.eval.agreement import compare
    from rla_exp.eval.lm_eval_tasks import open_tasks
    from rla_exp.eval.quiet import lm_eval_quiet
    from rla_exp.eval.restore import load_run
    from rla_exp.eval.suite import LmEvalSuite, load_suite

    try:
        from lm_eval.models.huggingface import HFLM

        from rla_exp.hf.export import export_model
    except ModuleNotFoundError as error:
        if error.name not in ("transformers", "accelerate"):
            raise
        raise UserError("the comparison needs transformers and accelerate: pip install 'rla_exp[test]'") from None

    loaded = load_run(settings.run)
    window = settings.window or loaded.train_length
    ours = RlaLM(loaded, context=f"windowed({window})", batch_size=settings.batch_size)
    suite = load_suite("smoke")
    assert isinstance(suite, LmEvalSuite)
    names = settings.tasks or tuple(suite.tasks)
    with open_tasks(names, suite, settings.data_dir) as source, TemporaryDirectory() as folder, lm_eval_quiet():
        exported = Path(folder) / "exported"
        export_model(loaded.model, loaded.tokenizer, exported, train_length=loaded.train_length, provenance={})
        theirs = HFLM(
            pretrained=str(exported),
            device="cpu",
            dtype="float32",
            batch_size=settings.batch_size,
            max_length=window,
        )
        return compare(ours, theirs, names, task_manager=source.manager, limit=settings.limit)


def _show(found: list[TaskAgreement]) -> None:
    """A table in Markdown."""
    print(
        "| task | requests | tokens | difference, nats a token | largest of a request | other answers | metrics "
        "| ours, s | HFLM, s |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for task in found:
        metrics = [f"{name.removesuffix(',none')} {a:.6g} / {b:.6g}" for name, (a, b) in task.metrics.items()]
        difference = f"{task.mean_difference:.1e} | {task.largest_difference:.1e}" if task.num_tokens else "- | -"
        numbers = f"{task.num_requests} | {task.num_tokens} | {difference} | {task.num_other_answers}"
        times = " | ".join(f"{seconds:.2f}" for seconds in task.seconds)
        print(f"| {task.task} | {numbers} | {', '.join(metrics)} | {times} |")


if __name__ == "__main__":
    sys.exit(main())
