"""Needles in a haystack: facts hidden in a text and asked for at its end, made here for any length and tokenizer.

The eight tasks have the structure of RULER's (Hsieh et al., 2024, arXiv 2404.06654) in words of our own, so that they
need no download; scores compare with each other, not with RULER's. A prompt looks so (needle_single_2):

    One secret number is hidden in the text below. Remember it, for it is asked for at the end.
    The calm otter meets the tall bridge at dawn. One secret number of misty-harbour is 4810273. At noon, ...
    The secret number of misty-harbour is
"""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np

from rla_exp.config.wording import closest, did_you_mean
from rla_exp.data.tokenizer import Tokenizer
from rla_exp.errors import ConfigError
from rla_exp.eval.mean import mean_score
from rla_exp.eval.niah_text import (
    SET_IN,
    generated_sentences,
    number,
    random_uuid,
    read_sentences,
    repeated_sentences,
    sentences_from,
    word_key,
)


@dataclass(frozen=True)
class NeedleTask:
    """What is hidden, in what, and what is asked for."""

    haystack: Literal["repeated", "prose", "needles"]
    """A few sentences over and over, prose, or further needles with other keys."""
    keys: Literal["words", "uuids"] = "words"
    values: Literal["numbers", "uuids"] = "numbers"
    num_keys: int = 1
    num_values: int = 1
    """Values of each key; every one is a needle of its own."""
    num_queries: int = 1
    """Keys asked for, at most num_keys."""


NEEDLE_TASKS = {
    "needle_single_1": NeedleTask("repeated"),
    "needle_single_2": NeedleTask("prose"),
    "needle_single_3": NeedleTask("prose", values="uuids"),
    "needle_multi_key_1": NeedleTask("prose", num_keys=4),
    "needle_multi_key_2": NeedleTask("needles"),
    "needle_multi_key_3": NeedleTask("needles", keys="uuids", values="uuids"),
    "needle_multi_value": NeedleTask("prose", num_values=4),
    "needle_multi_query": NeedleTask("prose", num_keys=4, num_queries=4),
}


@dataclass(frozen=True, kw_only=True)
class NeedleConfig:
    """Which documents are made: num_samples for every task, length and depth."""

    tasks: tuple[str, ...] = tuple(NEEDLE_TASKS)
    lengths: tuple[int, ...] = (512, 1024, 2048)
    """Tokens of the prompt and the max_new_tokens after it together, at most; filled up to within a sentence."""
    depths: tuple[float, ...] = (0.0, 0.25, 0.5, 0.75, 1.0)
    """Share of the haystack before the needle (the first one asked for; others lie at random)."""
    num_samples: int = 10
    max_new_tokens: int = 128
    """Room for the answer, as in RULER."""
    haystack: Path | None = None
    """A text file that prose is taken from; None: generated sentences."""
    seed: int = 0


@dataclass(frozen=True)
class NeedleDocument:
    """One question."""

    task: str
    prompt: str
    answers: tuple[str, ...]
    """All of them should stand in the completion."""
    length: int
    """As configured."""
    depth: float
    """As configured."""
    num_tokens: int
    """Of the prompt."""
    max_new_tokens: int


def needle_documents(config: NeedleConfig, tokenizer: Tokenizer) -> list[NeedleDocument]:
    """All documents of the configuration, by task, length, depth and sample.

    Each is a function of the seed, its task, length, depth, number and the tokenizer alone, whatever else is asked for.

    Raises:
        ConfigError: settings that cannot be, all of them; among them lengths too short for a task with this tokenizer.
        DataError: the haystack's file cannot be read.
    """
    problems = _problems(config)
    if problems:
        raise ConfigError(problems)
    sentences = None if config.haystack is None else read_sentences(config.haystack)
    documents = []
    for name in config.tasks:
        for length in config.lengths:
            try:
                documents += [
                    _document(name, length, depth, sample, config, sentences, tokenizer)
                    for depth in config.depths
                    for sample in range(config.num_samples)
                ]
            except _TooShortError as error:
                problems.append(
                    f"{SET_IN}: lengths={length}: {name} takes {error.args[0]} tokens without any haystack, and "
                    f"{config.max_new_tokens} for the answer; raise the length or leave the task out of tasks"
                )
    if problems:
        raise ConfigError(problems)
    return documents


def needle_score(completion: str, answers: Sequence[str]) -> float:
    """The share of the answers that stand in the completion, in [0, 1]; upper and lower case are the same."""
    completion = completion.lower()
    return sum(answer.lower() in completion for answer in answers) / len(answers)


def needle_accuracy(documents: Sequence[NeedleDocument], scores: Sequence[float]) -> list[dict[str, Any]]:
    """Mean score of every task, length and depth, in the order of the documents.

    Returns:
        {"task", "length", "depth", "accuracy", "stderr" (None for one document), "n"} each.
    """
    places: dict[tuple[str, int, float], list[float]] = defaultdict(list)
    for document, score in zip(documents, scores, strict=True):
        places[document.task, document.length, document.depth].append(score)
    return [
        {
            "task": task,
            "length": length,
            "depth": depth,
            "accuracy": (mean := mean_score(values)).value,
            "stderr": mean.stderr,
            "n": len(values),
        }
        for (task, length, depth), values in places.items()
    ]


class _TooShortError(Exception):
    """The prompt does not fit; its argument is the tokens it takes without haystack."""


def _document(
    name: str,
    length: int,
    depth: float,
    sample: int,
    config: NeedleConfig,
    sentences: Sequence[str] | None,
    tokenizer: Tokenizer,
) -> NeedleDocument:
    task = NEEDLE_TASKS[name]
    rng = np.random.default_rng((config.seed, zlib.crc32(name.encode()), length, round(depth * 1000), sample))
    key = word_key if task.keys == "words" else random_uuid
    value = number if task.values == "numbers" else random_uuid
    keys = _distinct(key, rng, task.num_keys)
    values = _distinct(value, rng, task.num_keys * task.num_values)
    facts = [(keys[index // task.num_values], value) for index, value in enumerate(values)]
    needles = [_needle(task, *fact) for fact in facts]
    # where each needle lies, as a share of the haystack; the first key is asked for
    places = [depth, *rng.random(len(needles) - 1)]
    queries = keys[: task.num_queries]
    answers = tuple(values[: task.num_queries * task.num_values])

    limit = length - config.max_new_tokens
    separator = " " if task.haystack == "prose" else "\n"

    def prompt(haystack: Sequence[str]) -> str:
        return _prompt(task, separator.join(_hidden(needles, places, haystack)), queries)

    bare = _num_tokens(tokenizer, prompt([]))
    if bare > limit:
        raise _TooShortError(bare)
    haystack = _taken(_haystack(task, keys, sentences, rng), separator, limit - bare, tokenizer)
    # tokens may join other letters where sentences meet
    while (num_tokens := _num_tokens(tokenizer, prompt(haystack))) > limit:
        haystack.pop()
    return NeedleDocument(name, prompt(haystack), answers, length, depth, num_tokens, config.max_new_tokens)


def _haystack(
    task: NeedleTask, keys: Sequence[str], sentences: Sequence[str] | None, rng: np.random.Generator
) -> Iterator[str]:
    if task.haystack == "repeated":
        return repeated_sentences()
    if task.haystack == "prose":
        return generated_sentences(rng) if sentences is None else sentences_from(sentences, rng)
    return _other_needles(task, keys, rng)


def _other_needles(task: NeedleTask, keys: Sequence[str], rng: np.random.Generator) -> Iterator[str]:
    key = word_key if task.keys == "words" else random_uuid
    value = number if task.values == "numbers" else random_uuid
    while True:
        other = key(rng)
        if other not in keys:
            yield _needle(task, other, value(rng))


def _taken(units: Iterator[str], separator: str, budget: int, tokenizer: Tokenizer) -> list[str]:
    """As many sentences as have `budget` tokens, each counted by itself."""
    taken: list[str] = []
    while True:
        block = list(islice(units, 64))
        for unit, encoded in zip(block, tokenizer.encode([separator + unit for unit in block]), strict=True):
            budget -= len(encoded.tokens) - 1
            if budget < 0:
                return taken
            taken.append(unit)


def _hidden(needles: Sequence[str], places: Sequence[float], haystack: Sequence[str]) -> list[str]:
    """The haystack with each needle where that share of it has passed."""
    hidden = list(haystack)
    for place, needle in sorted(zip(places, needles, strict=True), reverse=True):
        hidden.insert(round(place * len(haystack)), needle)
    return hidden


def _needle(task: NeedleTask, key: str, value: str) -> str:
    return f"One secret {_kind(task)} of {key} is {value}."


def _prompt(task: NeedleTask, context: str, queries: Sequence[str]) -> str:
    kind = _kind(task)
    if task.num_queries * task.num_values == 1:
        intro = f"One secret {kind} is hidden in the text below. Remember it, for it is asked for at the end."
        return f"{intro}\n{context}\nThe secret {kind} of {queries[0]} is"
    intro = f"Some secret {kind}s are hidden in the text below. Remember them, for they are asked for at the end."
    named = queries[0] if len(queries) == 1 else f"{', '.join(queries[:-1])} and {queries[-1]}"
    return f"{intro}\n{context}\nThe secret {kind}s of {named} are"


def _kind(task: NeedleTask) -> str:
    return "number" if task.values == "numbers" else "code"


def _distinct(make: Callable[[np.random.Generator], str], rng: np.random.Generator, count: int) -> list[str]:
    found: list[str] = []
    while len(found) < count:
        new = make(rng)
        if new not in found:
            found.append(new)
    return found


def _num_tokens(tokenizer: Tokenizer, text: str) -> int:
    (encoded,) = tokenizer.encode([text])
    # without the end of the document
    return len(encoded.tokens) - 1


def _problems(config: NeedleConfig) -> list[str]:
    problems = []
    for name in config.tasks:
        if name not in NEEDLE_TASKS:
            guess = did_you_mean(closest(name, NEEDLE_TASKS))
            problems.append(f"{SET_IN}: tasks={name}: there is no such task; allowed: {', '.join(NEEDLE_TASKS)}{guess}")
    for key in ("tasks", "lengths", "depths"):
        values = getattr(config, key)
        if not values or len(set(values)) < len(values):
            problems.append(f"{SET_IN}: {key}={list(values)}: name at least one, each once")
    problems += [f"{SET_IN}: depths={depth}: must be from 0 to 1" for depth in config.depths if not 0 <= depth <= 1]
    for key, least in (("num_samples", 1), ("max_new_tokens", 1), ("seed", 0)):
        if getattr(config, key) < least:
            problems.append(f"{SET_IN}: {key}={getattr(config, key)}: must be a whole number from {least} on")
    return problems
