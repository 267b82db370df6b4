"""A suite on a run: task by task, each stored when it is finished, so that an interrupted evaluation goes on."""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import torch

from rla_exp.data.tokenizer import Tokenizer
from rla_exp.errors import ConfigError, DataError, RunError
from rla_exp.eval.context_rule import ContextRule
from rla_exp.eval.mqar import run_mqar
from rla_exp.eval.niah_text import SET_IN
from rla_exp.eval.progress import Progress, unseen
from rla_exp.eval.random_state import random_state_kept
from rla_exp.eval.restore import LoadedRun
from rla_exp.eval.stored import Documents, is_finished, refuse_other_documents, resumed
from rla_exp.eval.suite import LmEvalSuite, MqarSuite, NeedleSuite, Suite
from rla_exp.eval.trained_model import TrainedModel
from rla_exp.runs import EVALUATING, git_commit, sources_hash
from rla_exp.runs.environment import device_name
from rla_exp.runs.evaluations import Evaluation, TaskScores, evaluations_locked, write_evaluation

logger = logging.getLogger(__name__)

DEFAULT_BATCH_SIZE = 32


class OpenSuite(NamedTuple):
    """A suite that is ready to run on a model."""

    tasks: Sequence[str]
    """Names of tasks, groups or tags."""
    run_task: Callable[[str], dict[str, TaskScores]]
    """From such a name to its scores, by the names under which they are stored; draws random numbers."""
    entries: Callable[[str], dict[str, Documents]]
    """The entries without which such a name is not finished: its own, or those of a tag's members."""


@dataclass(frozen=True, kw_only=True)
class EvaluationSettings:
    """How a suite is run; what is None follows the suite's file."""

    context: str | None = None
    limit: int | None = None
    """Documents of each task (of each length and depth); None: all."""
    data_dir: Path | None = None
    batch_size: int | None = None
    """Rows at a time, which changes no score; None: 32."""
    overwrite: bool = False
    """Score anew what was stored under other settings, by other sources or from other data; the rest stands."""


def evaluate_run(
    run: LoadedRun,
    name: str,
    suite: Suite,
    settings: EvaluationSettings | None = None,
    tell: Callable[[str], object] = logger.info,
    progress: Progress = unseen,
) -> Evaluation:
    """Score a run's model on a suite and store the scores in the run's folder.

    Tasks that are stored already are not run again. The process's random number generators are left as they were.

    Args:
        name: of the suite's file.
        tell: is given a line for each task with its scores.
        progress: shows how far a task's requests are.

    Raises:
        ConfigError: a setting cannot be, or does nothing with this suite.
        DataError: a task's data cannot be had; says which files are wanted.
        RunError: scores of other settings, sources or data are there and `overwrite` is not set, or the folder cannot
            be written.
    """
    settings = settings or EvaluationSettings()
    suite = _with_context(suite, settings)
    now = Evaluation(name, _describe(run, suite, settings), _provenance(run), {})
    folder = run.folder.path
    stored = resumed(folder, now, overwrite=settings.overwrite)
    with random_state_kept(), open_suite(run, suite, settings, progress) as opened:
        wanted = {task: opened.entries(task) for task in opened.tasks}
        if not settings.overwrite:
            refuse_other_documents(folder, stored, {key: value for of in wanted.values() for key, value in of.items()})
        for task, entries in wanted.items():
            # read again each time: another command may be at other tasks of this file
            stored = resumed(folder, now, overwrite=settings.overwrite)
            if is_finished(stored, entries):
                for entry in entries:
                    tell(f"{_summary(entry, stored.tasks[entry])}, evaluated before")
                continue
            scores = opened.run_task(task)
            _refuse_nonfinite(task, scores, run)
            with evaluations_locked(folder):
                stored = resumed(folder, now, overwrite=settings.overwrite)
                stored = replace(stored, tasks={**stored.tasks, **scores})
                write_evaluation(folder, stored)
            for entry in entries:
                tell(_summary(entry, scores[entry]))
    return stored


def _summary(entry: str, found: TaskScores) -> str:
    """A line for what is finished."""
    numbers = ", ".join(
        f"{name} {score.value:.4g}" + ("" if score.stderr is None else f" ± {score.stderr:.2g}")
        for name, score in found.metrics.items()
    )
    return f"{entry}: {numbers} (n={found.n}, {found.seconds:.1f} s)"


def _with_context(suite: Suite, settings: EvaluationSettings) -> Suite:
    problems = []
    if isinstance(suite, MqarSuite):
        problems += [
            f"{key}={getattr(settings, key)}: has no effect with eval=mqar; leave it out"
            for key in ("context", "batch_size")
            if getattr(settings, key) is not None
        ]
    if not isinstance(suite, LmEvalSuite) and settings.data_dir is not None:
        problems.append(
            f"data_dir={settings.data_dir}: has no effect with this suite, whose documents are generated; leave it out"
        )
    if problems:
        raise ConfigError(problems)
    if isinstance(suite, MqarSuite):
        return suite
    context = settings.context or suite.context
    return replace(suite, context=str(ContextRule.parse(context)))


@contextmanager
def open_suite(
    trained: TrainedModel, suite: Suite, settings: EvaluationSettings, progress: Progress = unseen
) -> Iterator[OpenSuite]:
    """The suite on the model; nothing is stored.

    Raises:
        ConfigError: lm-eval has no such task, or the model's data are of another kind.
        DataError: a task's local files are missing or lack a field.
    """
    if isinstance(suite, MqarSuite):
        yield OpenSuite(["mqar"], lambda _: {"mqar": run_mqar(trained, settings.limit)}, _generated)
        return
    # imported here: lm-eval takes seconds
    from rla_exp.eval.adapter import RlaLM

    batch_size = settings.batch_size or DEFAULT_BATCH_SIZE
    model = RlaLM(trained, context=suite.context, batch_size=batch_size, progress=progress)
    if isinstance(suite, NeedleSuite):
        from rla_exp.eval.needles import needle_tasks, run_needles

        yield OpenSuite(
            needle_tasks(suite), lambda task: {task: run_needles(model, task, suite, settings.limit)}, _generated
        )
        return
    from rla_exp.eval.lm_eval_tasks import open_tasks, run_task, stored_entries

    with open_tasks(suite.tasks, suite, settings.data_dir) as source:
        yield OpenSuite(
            suite.tasks,
            lambda task: run_task(model, task, suite, source, settings.limit),
            lambda task: stored_entries(task, source),
        )


def _generated(task: str) -> dict[str, Documents]:
    return {task: Documents("generated")}


def _describe(run: LoadedRun, suite: Suite, settings: EvaluationSettings) -> dict[str, Any]:
    """What the scores follow from; two files that differ in it do not compare."""
    described = {key: value for key, value in asdict(suite).items() if key != "tasks"}
    if isinstance(suite, NeedleSuite) and suite.haystack is not None:
        # its text, not only its name
        described["haystack"] = _named_content(Path(suite.haystack))
    return {
        **described,
        "limit": settings.limit,
        "tokenizer": _tokenizer_name(run),
        "dtype": str(run.model.embedding.weight.dtype).removeprefix("torch."),
        "lm_eval": version("lm_eval"),
        "checkpoint": run.checkpoint.name,
        "checkpoint_sha256": run.checkpoint_sha256,
        "step": run.step,
    }


def _named_content(haystack: Path) -> str:
    try:
        return f"{haystack.name}:{hashlib.sha256(haystack.read_bytes()).hexdigest()}"
    except OSError as error:
        raise DataError(f"{SET_IN}: haystack={haystack}: cannot read it: {error.strerror or error}") from error


def _tokenizer_name(run: LoadedRun) -> str | None:
    tokenizer: Tokenizer | None = run.tokenizer
    if tokenizer is None:
        return None
    name = getattr(run.config.data, "tokenizer", "bytes")
    return f"{Path(name).name}-{tokenizer.vocab_size}"


def _provenance(run: LoadedRun) -> dict[str, Any]:
    commit = git_commit()
    device = run.model.embedding.weight.device.type
    return {
        "sources": sources_hash(EVALUATING),
        "git": None if commit is None else {"commit": commit[0], "dirty": commit[1]},
        "device": device_name("cuda" if device == "cuda" else "cpu"),
        "torch": torch.__version__,
    }


def _refuse_nonfinite(task: str, scores: dict[str, TaskScores], run: LoadedRun) -> None:
    bad = [
        f"{name} {metric}"
        for name, found in scores.items()
        for metric, score in found.metrics.items()
        if not math.isfinite(score.value)
    ]
    if bad:
        raise RunError(f"{task}: {', '.join(bad)} of {run.folder.path} is not finite, and nothing of it was stored")
