"""Commands whose settings are `key=value`, like those of a run, but few and fixed."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rla_exp.config.wording import closest, did_you_mean
from rla_exp.errors import ConfigError
from rla_exp.runs.files import expand_home


@dataclass(frozen=True)
class Key:
    """A setting of a command."""

    read: Callable[[str], Any]
    """Text to value; raises ValueError where it cannot."""
    allowed: str
    """What its text may be, for messages and help."""
    meaning: str
    """One line for the help."""


def read_key_values(arguments: Sequence[str], keys: Mapping[str, Key]) -> dict[str, Any]:
    """The settings that were typed; one without a value (`jobs=`) is as if it were not there.

    Raises:
        ConfigError: with every word that is no setting, unknown key, repeated key and unreadable value.
    """
    values: dict[str, Any] = {}
    problems: list[str] = []
    for argument in arguments:
        name, equals, text = argument.partition("=")
        if not equals:
            guess = f"{name}=..." if name in keys else None
            problems.append(f"{argument}: settings are written key=value{did_you_mean(guess)}")
        elif name not in keys:
            guess = closest(name, keys)
            allowed = f"allowed: {', '.join(keys)}"
            problems.append(f"{argument}: there is no setting {name}; {allowed}{did_you_mean(guess)}")
        elif name in values:
            problems.append(f"{argument}: {name} is set twice; leave one of them out")
        elif text:
            try:
                values[name] = keys[name].read(text)
            except ValueError:
                problems.append(f"{argument}: {name} is {text!r}; allowed: {keys[name].allowed}")
    if problems:
        raise ConfigError(problems)
    return values


def describe_keys(keys: Mapping[str, Key]) -> str:
    """The settings for a help text, a line each."""
    width = max(len(name) for name in keys)
    return "\n".join(f"  {name:<{width}}  {key.meaning} ({key.allowed})" for name, key in keys.items())


def whole_number(text: str) -> int:
    """A whole number from 1 on."""
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def positive(text: str) -> float:
    """A finite number above 0."""
    number = float(text)
    if not 0 < number < math.inf:
        raise ValueError(text)
    return number


def not_negative(text: str) -> float:
    """A finite number from 0 on."""
    number = float(text)
    if not 0 <= number < math.inf:
        raise ValueError(text)
    return number


def seed_list(text: str) -> tuple[int, ...]:
    """Seeds separated by commas: 0,1,2."""
    seeds = tuple(int(seed) for seed in text.split(","))
    if min(seeds) < 0 or len(set(seeds)) < len(seeds):
        raise ValueError(text)
    return seeds


def name_list(text: str) -> tuple[str, ...]:
    """Distinct names separated by commas."""
    names = tuple(name.strip() for name in text.split(","))
    if not all(names) or len(set(names)) < len(names):
        raise ValueError(text)
    return names


def path_list(text: str) -> tuple[str, ...]:
    """Paths or globs separated by commas; the user's own folder as ~."""
    paths = tuple(str(expand_home(path.strip())) for path in text.split(",") if path.strip())
    if not paths:
        raise ValueError(text)
    return paths


def yes_or_no(text: str) -> bool:
    """true or false."""
    if text.lower() not in ("true", "false"):
        raise ValueError(text)
    return text.lower() == "true"
