"""What a file of conf/eval/ says: which tasks, and under which rule they are scored."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from rla_exp.config.locate import conf_dir
from rla_exp.config.suites import suite_kinds
from rla_exp.config.wording import closest, did_you_mean
from rla_exp.errors import ConfigError

_STRICT = ConfigDict(extra="forbid")


@dataclass(frozen=True, kw_only=True)
class LmEvalSuite:
    """Tasks of lm-eval, or of our own in its form."""

    __pydantic_config__ = _STRICT

    kind: Literal["lm_eval"]
    tasks: Annotated[list[str], Field(min_length=1)]
    """Names of tasks, groups or tags."""
    num_fewshot: Annotated[int, Field(ge=0)] = 0
    """Examples before each question of the tasks that do not fix their number themselves, as gsm8k does (5)."""
    context: str = "full"
    """full or windowed(N), one rule for every model."""
    bootstrap_iters: Annotated[int, Field(ge=0)] = 1000
    """Resamplings for the standard errors that have no formula (perplexities)."""


@dataclass(frozen=True, kw_only=True)
class NeedleSuite:
    """Needles in haystacks, generated for the run's tokenizer."""

    __pydantic_config__ = _STRICT

    kind: Literal["niah"]
    context: str = "full"
    tasks: list[str] | None = None
    """null: all of `rla_exp.eval.niah.NEEDLE_TASKS`."""
    lengths: Annotated[list[int], Field(min_length=1)]
    depths: Annotated[list[float], Field(min_length=1)]
    num_samples: Annotated[int, Field(ge=1)]
    max_new_tokens: Annotated[int, Field(ge=1)] = 128
    haystack: str | None = None
    """A text file that prose is taken from; null: generated sentences."""
    seed: Annotated[int, Field(ge=0)] = 0


@dataclass(frozen=True, kw_only=True)
class MqarSuite:
    """The test split of a run that was trained on MQAR, by number of pairs."""

    __pydantic_config__ = _STRICT

    kind: Literal["mqar"]


Suite = LmEvalSuite | NeedleSuite | MqarSuite


@dataclass(frozen=True)
class _File:
    suite: Annotated[Suite, Field(discriminator="kind")]
    name: str = field(default="")


def load_suite(name: str) -> Suite:
    """Read a suite.

    Raises:
        ConfigError: there is none of this name, or its file says what cannot be.
    """
    names = list(suite_kinds())
    if name not in names:
        guess = did_you_mean(closest(name, names))
        raise ConfigError([f"eval={name}: there is no such suite; allowed: {', '.join(names)}{guess}"])
    file = conf_dir() / "eval" / f"{name}.yaml"
    return read_suite(yaml.safe_load(file.read_text(encoding="utf-8")), file)


def read_suite(content: Any, file: Path) -> Suite:
    """A suite from the content of its file, with every problem in one ConfigError."""
    try:
        return TypeAdapter(_File).validate_python({"suite": content}).suite
    except ValidationError as error:
        problems = []
        for details in error.errors():
            # after "suite" and the kind
            key = ".".join(map(str, details["loc"][2:])) or "kind"
            problems.append(f"{file}: {key}={details['input']!r}: {details['msg']}")
        raise ConfigError(problems) from None


def narrowed(suite: Suite, tasks: Collection[str]) -> Suite:
    """The suite with these of its tasks alone; whole where one of them is no entry of it, as a member of a group is."""
    if isinstance(suite, MqarSuite):
        return suite
    if isinstance(suite, NeedleSuite):
        return replace(suite, tasks=sorted(tasks))
    kept = [name for name in suite.tasks if name in tasks]
    return replace(suite, tasks=kept) if len(kept) == len(tasks) else suite
