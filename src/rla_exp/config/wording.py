"""How settings are written in messages, and what a misspelt name was probably meant to be."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Any


def show(value: Any) -> str:
    """A value as it would be typed on the command line."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "[" + ",".join(show(item) for item in value) + "]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{show(item)}" for key, item in value.items()) + "}"
    return json.dumps(value)


def listed(words: Sequence[str], conjunction: str = "or") -> str:
    """`a`, `a or b`, `a, b or c`."""
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} {conjunction} {words[-1]}"


def closest(word: str, known: Iterable[str]) -> str | None:
    """The known name nearest to a misspelt one; of dotted names the last part counts too (`lr` for `optim.lr`)."""
    names = list(known)
    if whole := get_close_matches(word, names, n=1, cutoff=0.6):
        return whole[0]
    ends: dict[str, str] = {}
    for name in names:
        ends.setdefault(name.rsplit(".", 1)[-1], name)
    end = get_close_matches(word.rsplit(".", 1)[-1], ends, n=1, cutoff=0.6)
    return ends[end[0]] if end else None


def did_you_mean(guess: str | None) -> str:
    """The end of a message that proposes a spelling; empty without one."""
    return f"; did you mean {guess}?" if guess else ""
