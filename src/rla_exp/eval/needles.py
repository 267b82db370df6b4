"""Needles in haystacks, run on a model."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from lm_eval.api.instance import Instance

from rla_exp.eval.adapter import RlaLM
from rla_exp.eval.mean import mean_score
from rla_exp.eval.niah import (
    NEEDLE_TASKS,
    NeedleConfig,
    NeedleDocument,
    needle_accuracy,
    needle_documents,
    needle_score,
)
from rla_exp.eval.suite import NeedleSuite
from rla_exp.runs.evaluations import TaskScores


def needle_config(suite: NeedleSuite, task: str, limit: int | None) -> NeedleConfig:
    """What one task of the suite asks for; limit: documents for each length and depth."""
    return NeedleConfig(
        tasks=(task,),
        lengths=tuple(suite.lengths),
        depths=tuple(suite.depths),
        num_samples=suite.num_samples if limit is None else min(limit, suite.num_samples),
        max_new_tokens=suite.max_new_tokens,
        haystack=None if suite.haystack is None else Path(suite.haystack),
        seed=suite.seed,
    )


def needle_tasks(suite: NeedleSuite) -> list[str]:
    """The suite's tasks."""
    return list(NEEDLE_TASKS) if suite.tasks is None else suite.tasks


def run_needles(model: RlaLM, task: str, suite: NeedleSuite, limit: int | None) -> TaskScores:
    """The share of answers found, in all and by length; `details` has it by length and depth.

    Raises:
        ConfigError: settings that cannot be, among them lengths without room for the task.
        DataError: the haystack's file cannot be read.
    """
    started = time.perf_counter()
    documents = needle_documents(needle_config(suite, task, limit), model.text_tokenizer)
    requests = [
        Instance(
            "generate_until",
            {},
            (document.prompt, {"max_gen_toks": document.max_new_tokens}),
            index,
            metadata=(task, index, 1),
        )
        for index, document in enumerate(documents)
    ]
    completions = model.generate_until(requests)
    scores = [needle_score(text, document.answers) for text, document in zip(completions, documents, strict=True)]
    metrics = {"accuracy": mean_score(scores)}
    for length in suite.lengths:
        metrics[f"accuracy@{length}"] = mean_score(_of_length(documents, scores, length))
    seconds = time.perf_counter() - started
    details = needle_accuracy(documents, scores)
    return TaskScores(version=1.0, n=len(scores), metrics=metrics, seconds=seconds, data="generated", details=details)


def _of_length(documents: Sequence[NeedleDocument], scores: Sequence[float], length: int) -> list[float]:
    return [score for document, score in zip(documents, scores, strict=True) if document.length == length]
