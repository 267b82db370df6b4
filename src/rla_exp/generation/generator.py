"""Text from text: the Python interface of generation."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from rla_exp.data.tokenizer import Tokenizer
from rla_exp.errors import ConfigError
from rla_exp.generation.decoding import EagerStep, Step, decode
from rla_exp.generation.graph import GraphedStep, can_be_graphed
from rla_exp.generation.reading import DecodingState, read_prompts
from rla_exp.generation.sampling import Sampler, Sampling
from rla_exp.generation.text import StopStrings, TextStream
from rla_exp.models import Cache, LanguageModel

logger = logging.getLogger(__name__)

FinishReason = Literal["length", "end", "stop"]
"""max_new_tokens were made; the model ended the document; a stop string came."""


@dataclass(frozen=True)
class Piece:
    """Some more text of one completion."""

    prompt: int
    """Which prompt it goes on from."""
    text: str
    finish_reason: FinishReason | None
    """Set on the last piece of a completion."""
    num_tokens: int
    """Tokens of the completion so far, an end of the document included."""


@dataclass(frozen=True)
class Completion:
    """What the model wrote after a prompt."""

    text: str
    """Without the stop string."""
    finish_reason: FinishReason
    num_tokens: int
    """Tokens made."""


class TextGenerator:
    """A model with its tokenizer, ready to write."""

    def __init__(self, model: LanguageModel, tokenizer: Tokenizer, *, trained_length: int | None = None) -> None:
        """trained_length: tokens of the longest training sequence; a transformer that goes beyond logs a warning."""
        self.model, self.tokenizer = model, tokenizer
        self.trained_length = trained_length
        self._graphs: dict[int, GraphedStep] = {}
        self._warned = False

    def read(self, prompt: str, after: DecodingState | None = None) -> DecodingState:
        """The state after a prompt, for `stream` and `generate` to go on from any number of times.

        Args:
            after: a state to go on from, which is not changed; an empty prompt then gives a copy of it.
        """
        tokens = self._tokens(prompt, after)
        self._warn(len(tokens), 0, after)
        return read_prompts(self.model, [tokens], after)

    def generate(
        self,
        prompts: Sequence[str],
        *,
        max_new_tokens: int,
        sampling: Sampling | None = None,
        stop: Sequence[str] = (),
        after: DecodingState | None = None,
        keep_last: int | None = None,
        rows: Sequence[int] | None = None,
    ) -> list[Completion]:
        """The whole completion of every prompt, in their order; arguments as in `stream`."""
        texts = [""] * len(prompts)
        completions: dict[int, Completion] = {}
        pieces = self.stream(
            prompts,
            max_new_tokens=max_new_tokens,
            sampling=sampling,
            stop=stop,
            after=after,
            keep_last=keep_last,
            rows=rows,
        )
        for piece in pieces:
            texts[piece.prompt] += piece.text
            if piece.finish_reason is not None:
                completions[piece.prompt] = Completion(texts[piece.prompt], piece.finish_reason, piece.num_tokens)
        return [completions[index] for index in range(len(prompts))]

    def stream(
        self,
        prompts: Sequence[str],
        *,
        max_new_tokens: int,
        sampling: Sampling | None = None,
        stop: Sequence[str] = (),
        after: DecodingState | None = None,
        keep_last: int | None = None,
        rows: Sequence[int] | None = None,
    ) -> Iterator[Piece]:
        """Completions as they are written, a piece for each token of each prompt that is not finished.

        Nothing grows with the number of tokens but a transformer's cache.

        Args:
            prompts: any number, of any lengths. An empty one begins a document.
            max_new_tokens: of each completion.
            sampling: None: greedy.
            stop: strings that end a completion where they appear in it.
            after: a state that all prompts go on from, as `read` returns it.
            keep_last: read the last so many tokens of a prompt only; None: all.
            rows: the number of each prompt, which with the seed decides what is drawn for it; None: its place, from 0.

        Raises:
            ConfigError: max_new_tokens or a stop string cannot be.
            RunError: the model's logits are not finite.
        """
        problems = [] if max_new_tokens >= 1 else [f"max_new_tokens={max_new_tokens}: must be at least 1"]
        problems += ["stop: an empty string would stop at once; leave it out"] if "" in stop else []
        if problems:
            raise ConfigError(problems)
        first = None if keep_last is None else -keep_last
        tokens = [self._tokens(prompt, after)[first:] for prompt in prompts]
        self._warn(max(map(len, tokens), default=0), max_new_tokens, after)
        sampler = Sampler(sampling or Sampling(), range(len(prompts)) if rows is None else rows)
        return self._pieces(tokens, max_new_tokens, sampler, stop, after)

    def _pieces(
        self,
        prompts: Sequence[Sequence[int]],
        max_new_tokens: int,
        sampler: Sampler,
        stop: Sequence[str],
        after: DecodingState | None,
    ) -> Iterator[Piece]:
        if not prompts:
            return
        state = read_prompts(self.model, prompts, after)
        writers = {
            row: _Writer(
                row, TextStream(self.tokenizer.decode, [token for token in last if token >= 0]), StopStrings(stop)
            )
            for row, last in enumerate(state.last.tolist())
        }
        with self._step(state.cache) as step:
            steps = decode(step, state, sampler, self.tokenizer.vocab_size)
            for count, tokens in enumerate(steps, start=1):
                chosen = tokens.tolist()
                for row, writer in list(writers.items()):
                    piece = writer.write(chosen[row], count, self.tokenizer.end, last=count == max_new_tokens)
                    yield piece
                    if piece.finish_reason is not None:
                        del writers[row]
                if not writers:
                    break

    @contextmanager
    def _step(self, cache: Cache) -> Iterator[Step]:
        """What moves the cache on; graphs are kept for later calls, and never shared by two at a time."""
        if not can_be_graphed(self.model):
            yield EagerStep(self.model, cache)
            return
        graph = self._graphs.pop(cache.batch_size, None) or GraphedStep(self.model, cache.batch_size)
        graph.load(cache)
        try:
            yield graph
        finally:
            self._graphs[cache.batch_size] = graph

    def _tokens(self, prompt: str, after: DecodingState | None) -> list[int]:
        if not prompt and after is None:
            # what stands before a document in training
            return [self.tokenizer.end]
        (encoded,) = self.tokenizer.encode([prompt])
        return [int(token) for token in encoded.tokens[:-1]]

    def _warn(self, num_tokens: int, max_new_tokens: int, after: DecodingState | None) -> None:
        if self.model.config.mixer != "attention" or self.trained_length is None or self._warned:
            return
        prompt = num_tokens + (0 if after is None else after.cache.length)
        if prompt > self.trained_length:
            what = f"a prompt of {prompt} tokens goes"
        elif prompt + max_new_tokens > self.trained_length:
            what = f"a prompt of {prompt} tokens and {max_new_tokens} new ones go"
        else:
            return
        self._warned = True
        logger.warning(
            "warning: %s beyond the %d tokens that this transformer was trained on; it has not learned positions there",
            what,
            self.trained_length,
        )


class _Writer:
    """One completion being written."""

    def __init__(self, prompt: int, text: TextStream, stop: StopStrings) -> None:
        self._prompt, self._text, self._stop = prompt, text, stop

    def write(self, token: int, num_tokens: int, end: int, *, last: bool) -> Piece:
        """The piece that a token makes, the num_tokens-th."""
        ended = token == end
        text = self._stop.add(self._text.flush() if ended else self._text.add(token))
        if last and not ended and not self._stop.stopped:
            text += self._stop.add(self._text.flush())
        reason: FinishReason | None = None
        if self._stop.stopped:
            reason = "stop"
        elif ended or last:
            reason = "end" if ended else "length"
            text += self._stop.flush()
        return Piece(self._prompt, text, reason, num_tokens)
