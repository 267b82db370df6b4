"""Tokens to text as they come: whole characters only, and nothing that may yet turn out to be a stop string."""

from __future__ import annotations

from collections.abc import Callable, Sequence

REPLACEMENT = "�"
# bytes of a character that may still be missing are at most 3, but a token may be half of one
_MOST_PENDING = 16


class TextStream:
    """Decodes token by token; joined, the pieces are the text of all tokens."""

    def __init__(self, decode: Callable[[Sequence[int]], str], before: Sequence[int] = ()) -> None:
        """before: the last tokens before, for tokenizers whose spaces depend on what precedes."""
        self._decode = decode
        self._context = list(before)
        self._pending: list[int] = []

    def add(self, token: int) -> str:
        """The text that is complete with this token; empty while a character lacks bytes."""
        self._pending.append(token)
        text = self._new_text()
        if text.endswith(REPLACEMENT) and len(self._pending) < _MOST_PENDING:
            return ""
        self._context, self._pending = self._pending, []
        return text

    def flush(self) -> str:
        """What is left, with replacement characters for what never became complete."""
        text = self._new_text()
        self._context, self._pending = self._pending, []
        return text

    def _new_text(self) -> str:
        before = self._decode(self._context)
        return self._decode(self._context + self._pending)[len(before) :]


class StopStrings:
    """Passes text through until one of the stop strings stands in it."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = stops
        self._held = ""
        self.stopped = False
        """Whether a stop string has come; it and what follows are dropped."""

    def add(self, text: str) -> str:
        """What is surely before any stop string."""
        held = self._held + text
        found = [at for stop in self._stops if (at := held.find(stop)) >= 0]
        if found:
            self.stopped, self._held = True, ""
            return held[: min(found)]
        keep = max((_overlap(held, stop) for stop in self._stops), default=0)
        self._held = held[len(held) - keep :]
        return held[: len(held) - keep]

    def flush(self) -> str:
        """What was held back in case it became a stop string."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, stop: str) -> int:
    """Letters at the end of the text that the stop string begins with."""
    longest = min(len(text), len(stop) - 1)
    return next((size for size in range(longest, 0, -1) if text.endswith(stop[:size])), 0)
