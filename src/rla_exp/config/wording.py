"""How settings are written in messages, and what a misspelt name was probably meant to be."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from difflib import SequenceMatcher
from operator import itemgetter
from typing import Any

# the share of letters in common, difflib's own threshold
NEAR = 0.6


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
    """The known name nearest to a misspelt one, or none that is near. The last part of a dotted name decides whether
    it is near (`lr` is `optim.lr`); which is nearest, the parts before it too.
    """
    section, _, end = word.rpartition(".")
    scored = []
    for name in known:
        known_section, _, known_end = name.rpartition(".")
        likeness = _likeness(end, known_end)
        if likeness >= NEAR:
            scored.append((likeness + _likeness(section, known_section) / 2, name))
    return max(scored, key=itemgetter(0))[1] if scored else None


def _likeness(one: str, other: str) -> float:
    return SequenceMatcher(None, one, other).ratio()


def did_you_mean(guess: str | None) -> str:
    """The end of a message that proposes a spelling; empty without one."""
    return f"; did you mean {guess}?" if guess else ""
