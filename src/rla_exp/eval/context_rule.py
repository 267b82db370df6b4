"""How much of a text a model sees: one rule for all rows of a column, or they do not compare."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from rla_exp.errors import ConfigError
from rla_exp.eval.scoring import Request


@dataclass(frozen=True)
class ContextRule:
    """full: every token sees all tokens before it. windowed(N): inputs are at most N tokens, as lm-eval's HFLM cuts
    them for a model of that length.
    """

    window: int | None = None
    """N; None: full."""

    @classmethod
    def parse(cls, text: str) -> ContextRule:
        """`full` or `windowed(N)`.

        Raises:
            ConfigError: anything else.
        """
        if text == "full":
            return cls()
        found = re.fullmatch(r"windowed\(([1-9]\d*)\)", text)
        if found is None:
            raise ConfigError([f"context={text}: must be full, or windowed(N) with N tokens, as in windowed(2048)"])
        return cls(int(found[1]))

    def __str__(self) -> str:
        return "full" if self.window is None else f"windowed({self.window})"

    def cut(self, request: Request) -> Request:
        """The request with its context cut from the left.

        Raises:
            ConfigError: the continuation alone is longer than the window.
        """
        if self.window is None:
            return request
        # the last token is only predicted
        room = self.window + 1 - len(request.continuation)
        if room < 1:
            raise ConfigError(
                [f"context={self}: a continuation has {len(request.continuation)} tokens; widen the window to it"]
            )
        return Request(request.context[-room:], request.continuation)

    def windows(self, tokens: Sequence[int], prefix: int) -> list[Request]:
        """A document of its own as requests that score each of its tokens once, the first one after `prefix`.

        Windows are disjoint: each begins with the last token of the one before, and the last one reaches back for a
        full window's context.
        """
        if not tokens:
            return []
        if self.window is None:
            return [Request([prefix], tokens)]
        N = self.window
        requests = [Request([prefix], tokens[:N])]
        for start in range(N, len(tokens), N):
            scored = tokens[start : start + N]
            first = max(0, start + len(scored) - N - 1)
            requests.append(Request(tokens[first:start], scored))
        return requests

    def prompt_room(self, max_new_tokens: int) -> int | None:
        """Tokens of a prompt that are kept, its last ones; None: all.

        Raises:
            ConfigError: the window has no room for a prompt.
        """
        if self.window is None:
            return None
        if self.window <= max_new_tokens:
            raise ConfigError([f"context={self}: {max_new_tokens} new tokens leave no room for a prompt"])
        return self.window - max_new_tokens
