"""`rla-evaluate run=RUN_DIR eval=SUITE`: score a trained model and store the scores in its run's folder."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rla_exp.cli.key_values import Key, describe_keys, read_key_values, whole_number, yes_or_no
from rla_exp.cli.outcome import exit_code
from rla_exp.errors import ConfigError, InterruptedRun
from rla_exp.runs.files import expand_home


def _names(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(","))
    if not all(names):
        raise ValueError(text)
    return names


def _device(text: str) -> str:
    if text not in ("auto", "cpu", "cuda"):
        raise ValueError(text)
    return text


KEYS = {
    "run": Key(expand_home, "a run's folder", "which run"),
    "eval": Key(str, "a file of conf/eval", "which suite"),
    "tasks": Key(_names, "names of lm-eval's tasks, as in arc_easy,piqa", "instead of a suite; stored as tasks"),
    "checkpoint": Key(str, "a name in the run's checkpoints, or a file", "which one; default last"),
    "data_dir": Key(expand_home, "a folder", "read <data_dir>/<task>/<split>.jsonl instead of the hub"),
    "context": Key(str, "full or windowed(N)", "how much of a text is seen; default as the suite has it"),
    "limit": Key(whole_number, "a whole number from 1 on", "documents of each task, to try; default all"),
    "batch_size": Key(whole_number, "a whole number from 1 on", "rows at a time; changes no score; default 32"),
    "device": Key(_device, "auto, cpu or cuda", "default auto: a GPU where there is one"),
    "overwrite": Key(yes_or_no, "true or false", "score anew what had other settings or data; default false"),
}

HELP = f"""Score a trained model; the scores go to <run>/evaluations/<suite>.json.

usage: rla-evaluate run=RUN_DIR eval=SUITE [key=value ...]

{describe_keys(KEYS)}

How far a task is shows on stderr: a bar on a terminal, a line every half minute elsewhere.
Each task is stored when it is finished: after an interruption the same command goes on with the next.
Exit code 0: all tasks are scored. 1: a setting, file or folder has to be mended. 130: interrupted."""


@dataclass(frozen=True, kw_only=True)
class EvaluateSettings:
    """The settings of the command; see KEYS."""

    run: Path
    eval: str | None = None
    tasks: tuple[str, ...] | None = None
    checkpoint: str = "last"
    data_dir: Path | None = None
    context: str | None = None
    limit: int | None = None
    batch_size: int | None = None
    device: str = "auto"
    overwrite: bool = False


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if {"-h", "--help", "help"} & set(arguments):
        print(HELP)
        return 0
    return exit_code(lambda: evaluate(_settings(arguments)))


def _settings(arguments: Sequence[str]) -> EvaluateSettings:
    values = read_key_values(arguments, KEYS)
    problems = [] if "run" in values else ["run is not set; write run=FOLDER"]
    if ("eval" in values) == ("tasks" in values):
        problems.append("set one of eval=SUITE and tasks=NAMES")
    if problems:
        raise ConfigError(problems)
    return EvaluateSettings(**values)


def evaluate(settings: EvaluateSettings) -> None:
    """Evaluate a run and print its scores.

    Raises:
        UserError: something cannot be used as it is; finished tasks are stored.
        InterruptedRun: asked to stop; the same command goes on.
    """
    # torch is imported only now: a wrong name is answered at once
    from rla_exp.eval.suite import LmEvalSuite, Suite, load_suite

    suite: Suite
    if settings.eval is not None:
        name, suite = settings.eval, load_suite(settings.eval)
    else:
        name, suite = "tasks", LmEvalSuite(kind="lm_eval", tasks=list(settings.tasks or ()))
    import torch

    from rla_exp.eval.evaluate import EvaluationSettings, evaluate_run
    from rla_exp.eval.progress import shown_on
    from rla_exp.eval.restore import load_run
    from rla_exp.runs.evaluations import evaluation_file

    if settings.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError(["device=cuda: PyTorch sees no CUDA GPU here; use device=cpu, or mend the driver"])
    device = "cuda" if settings.device != "cpu" and torch.cuda.is_available() else "cpu"
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    run = load_run(settings.run, settings.checkpoint, device=device)
    try:
        evaluate_run(
            run,
            name,
            suite,
            EvaluationSettings(
                context=settings.context,
                limit=settings.limit,
                data_dir=settings.data_dir,
                batch_size=settings.batch_size,
                overwrite=settings.overwrite,
            ),
            tell=partial(print, flush=True),
            progress=shown_on(sys.stderr),
        )
    except KeyboardInterrupt:
        raise InterruptedRun("interrupted; finished tasks are stored, and the same command goes on") from None
    print(f"written: {evaluation_file(run.folder.path, name)}")


if __name__ == "__main__":
    sys.exit(main())
