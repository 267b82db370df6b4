"""How far two models of lm-eval agree, request by request: ours, and lm-eval's own on the exported folder."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import lm_eval
from lm_eval.api.model import LM
from lm_eval.tasks import TaskManager

from rla_exp.eval.adapter import RlaLM


@dataclass(frozen=True)
class TaskAgreement:
    """One task, asked of both."""

    task: str
    num_requests: int
    num_tokens: int
    """Tokens that were scored; 0 where text was generated."""
    mean_difference: float
    """Sum over requests of |ours - theirs|, in nats, by num_tokens."""
    largest_difference: float
    """Of one request, in nats a token."""
    num_other_answers: int
    """Requests that differ in whether the continuation is the greedy one, or in the generated text."""
    metrics: Mapping[str, tuple[float, float]]
    """By name, ours and theirs."""
    seconds: tuple[float, float]
    """Process time of our answers and of theirs; of all single tasks where a name stands for several."""


def compare(
    ours: RlaLM, theirs: LM, tasks: Sequence[str], *, task_manager: TaskManager, limit: int | None = None
) -> list[TaskAgreement]:
    """Evaluate both models on `tasks`; limit: documents of each task, None: all."""
    found = []
    for name in tasks:
        results, seconds = [], []
        for model in (ours, theirs):
            with _answers_timed(model) as times:
                results.append(
                    lm_eval.simple_evaluate(
                        model=model,
                        tasks=[name],
                        task_manager=task_manager,
                        limit=limit,
                        bootstrap_iters=0,
                        log_samples=True,
                        # None leaves the caller's generators alone
                        random_seed=None,
                        numpy_random_seed=None,
                        torch_random_seed=None,
                    )
                )
            seconds.append(sum(times))
        found += [
            _compare_task(ours, task, results[0], results[1], (seconds[0], seconds[1]))
            for task in sorted(results[0]["samples"])
        ]
    return found


@contextmanager
def _answers_timed(model: LM) -> Iterator[list[float]]:
    """The process time of each call that asks the model, without what lm-eval does before and after."""
    times: list[float] = []

    def timed(ask: Callable[..., Any]) -> Callable[..., Any]:
        def asked(*args: Any, **kwargs: Any) -> Any:
            started = time.process_time()
            answers = ask(*args, **kwargs)
            times.append(time.process_time() - started)
            return answers

        return asked

    kinds = ("loglikelihood", "loglikelihood_rolling", "generate_until")
    for kind in kinds:
        setattr(model, kind, timed(getattr(model, kind)))
    try:
        yield times
    finally:
        for kind in kinds:
            # the class's own again
            delattr(model, kind)


def _compare_task(
    ours: RlaLM,
    task: str,
    our_results: dict[str, Any],
    their_results: dict[str, Any],
    seconds: tuple[float, float],
) -> TaskAgreement:
    num_requests = num_tokens = num_other_answers = 0
    differences, per_token = [], []
    pairs = zip(_responses(our_results, task), _responses(their_results, task), strict=True)
    for (arguments, our_answer), (their_arguments, their_answer) in pairs:
        assert arguments == their_arguments
        num_requests += 1
        if isinstance(our_answer, str):
            num_other_answers += our_answer != their_answer
            continue
        if isinstance(our_answer, tuple):
            num_other_answers += our_answer[1] != their_answer[1]
            our_answer, their_answer = our_answer[0], their_answer[0]
        # what is scored stands last: the continuation, or the whole text
        scored = ours.tok_encode(arguments[-1])
        num_tokens += len(scored)
        differences.append(abs(our_answer - their_answer))
        per_token.append(differences[-1] / len(scored))
    return TaskAgreement(
        task=task,
        num_requests=num_requests,
        num_tokens=num_tokens,
        mean_difference=sum(differences) / max(1, num_tokens),
        largest_difference=max(per_token, default=0.0),
        num_other_answers=num_other_answers,
        metrics={
            name: (float(value), float(their_results["results"][task][name]))
            for name, value in our_results["results"][task].items()
            if "," in name and "stderr" not in name
        },
        seconds=seconds,
    )


def _responses(results: dict[str, Any], task: str) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Arguments and answer of each request, in the order of documents."""
    for sample in sorted(results["samples"][task], key=lambda sample: int(sample["doc_id"])):
        for arguments, (answer,) in zip(sample["arguments"], sample["resps"], strict=True):
            yield tuple(arguments), answer
