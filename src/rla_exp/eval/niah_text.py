"""What haystacks are made of: sentences and names, generated, so that they are the same on every machine."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator, Sequence
from itertools import cycle
from pathlib import Path

import numpy as np

from rla_exp.errors import DataError

SET_IN = "the suite's file in conf/eval/"
"""Where needles are told their lengths, depths and haystack, for messages."""


def _words(text: str, separator: str = " ") -> list[str]:
    return text.split(separator)


_ADJECTIVES = _words(
    "amber bold brisk calm clever copper cosmic crisp curly dapper dusty eager early fancy fierce fluffy frosty gentle "
    "giddy golden grand hasty hidden hollow humble icy jolly keen lively lonely lucky mellow mighty misty modest noble "
    "odd pale patient plain polite proud quiet rapid rare rosy round rusty salty shiny silent silver simple sleepy "
    "slender smooth solid spicy steady stormy sturdy sunny swift tall tame tidy tiny velvet vivid warm wild wise witty"
)
_NOUNS = _words(
    "anchor apple arrow badger barrel basket beacon bell bridge bucket button cabin candle canyon carpet castle cedar "
    "comet compass coral cottage cricket crown desert eagle engine feather ferry forest fountain garden glacier goblet "
    "hammer harbour hazel heron island jacket kettle ladder lantern lemon lizard magnet maple marble meadow mirror "
    "needle nutmeg oasis orchard otter paddle parrot pebble pillow planet pocket puzzle quarry ribbon river saddle "
    "sparrow spoon thistle tiger tunnel valley violin walnut whistle willow window"
)
_VERBS = _words(
    "admires answers avoids borrows carries catches changes crosses describes draws finds follows guards hears helps "
    "hides holds ignores joins keeps leaves likes meets mends moves needs notices opens paints passes praises pulls "
    "remembers repairs sees sells shows studies touches visits watches"
)
_TIMES = _words(
    "at dawn, at noon, at night, in spring, in summer, in autumn, in winter, after the rain, before the storm, "
    "on holidays, on market days, every morning, every evening, now and then, without a word, for no reason",
    separator=", ",
)

REPEATED = (
    "The rain falls on the hills.",
    "The wind turns.",
    "The road is long.",
    "Birds come and go.",
    "Then it rests.",
)

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")


def generated_sentences(rng: np.random.Generator) -> Iterator[str]:
    """Sentences without end, in which there are no digits."""
    while True:
        subject, place = (f"the {_pick(rng, _ADJECTIVES)} {_pick(rng, _NOUNS)}" for _ in range(2))
        clause = f"{subject} {_pick(rng, _VERBS)} {place}"
        time = _pick(rng, _TIMES)
        sentence = f"{time}, {clause}." if rng.random() < 0.3 else f"{clause} {time}."
        yield sentence[0].upper() + sentence[1:]


def repeated_sentences() -> Iterator[str]:
    """The same few sentences, over and over."""
    return cycle(REPEATED)


def read_sentences(file: Path) -> tuple[str, ...]:
    """The sentences of a text file, with single spaces.

    Raises:
        DataError: the file cannot be read, or holds nothing.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{SET_IN}: haystack: cannot read {file}: {error}; give a text file in UTF-8") from error
    sentences = tuple(" ".join(part.split()) for part in _SENTENCE_END.split(text) if part.strip())
    if not sentences:
        raise DataError(f"{SET_IN}: haystack: {file} holds no text")
    return sentences


def sentences_from(sentences: Sequence[str], rng: np.random.Generator) -> Iterator[str]:
    """The sentences in their order from a random one on, and again from the first after the last."""
    start = int(rng.integers(len(sentences)))
    return cycle((*sentences[start:], *sentences[:start]))


def word_key(rng: np.random.Generator) -> str:
    """A name like "misty-harbour"."""
    return f"{_pick(rng, _ADJECTIVES)}-{_pick(rng, _NOUNS)}"


def number(rng: np.random.Generator) -> str:
    """Seven digits, the first not 0."""
    return str(rng.integers(10**6, 10**7))


def random_uuid(rng: np.random.Generator) -> str:
    """A UUID of version 4."""
    return str(uuid.UUID(bytes=rng.bytes(16), version=4))


def _pick(rng: np.random.Generator, words: Sequence[str]) -> str:
    return words[int(rng.integers(len(words)))]
