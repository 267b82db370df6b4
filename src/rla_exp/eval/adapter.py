"""Our models as lm-eval sees them: the model class `rla_exp`.

import rla_exp.eval.adapter  # registers it
lm_eval.simple_evaluate(model="rla_exp", model_args={"run": "runs/..."}, tasks=["lambada_openai"])
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.api.registry import register_model

from rla_exp.config.wording import closest, did_you_mean
from rla_exp.data.tokenizer import Tokenizer
from rla_exp.errors import ConfigError
from rla_exp.eval.context_rule import ContextRule
from rla_exp.eval.generation_kwargs import Generation, read_generation
from rla_exp.eval.progress import Advance, Progress, unseen
from rla_exp.eval.restore import load_run
from rla_exp.eval.scoring import Request, Scorer
from rla_exp.generation import TextGenerator
from rla_exp.models import LanguageModel

logger = logging.getLogger(__name__)

NAME = "rla_exp"
_MODEL_ARGS = ("run", "checkpoint", "device", "context", "batch_size", "reuse")
_MOST_NAMED = 3


class TextModel(Protocol):
    """What can be evaluated on text; `LoadedRun` is one."""

    @property
    def model(self) -> LanguageModel:
        """In evaluation mode."""
        ...

    @property
    def tokenizer(self) -> Tokenizer | None:
        """None where the data are no text."""
        ...

    @property
    def train_length(self) -> int:
        """Tokens of the longest training sequence."""
        ...


@register_model(NAME)
class RlaLM(TemplateLM):  # type: ignore[misc]
    """One rule for how much is seen (`context`), no padding, and every common beginning read once."""

    def __init__(
        self,
        source: TextModel,
        *,
        context: ContextRule | str = "full",
        batch_size: int | str = 32,
        reuse: bool = True,
        progress: Progress = unseen,
    ) -> None:
        """batch_size: rows at a time; results do not depend on it. progress: shows how far the requests are.

        Raises:
            ConfigError: the model knows no text, or a setting cannot be.
        """
        super().__init__()
        if source.tokenizer is None:
            raise ConfigError(["lm-eval's tasks are texts, and this run was trained on MQAR; use eval=mqar"])
        self.source = source
        self.text_tokenizer = source.tokenizer
        self.context = ContextRule.parse(context) if isinstance(context, str) else context
        self.batch_size = _whole_number(batch_size)
        self.scorer = Scorer(source.model, batch_size=self.batch_size, reuse=reuse)
        self.generator = TextGenerator(source.model, source.tokenizer, trained_length=source.train_length)
        self._device = source.model.embedding.weight.device
        self._progress = progress
        self._warned = False

    @classmethod
    def create_from_arg_obj(
        cls, arg_dict: Mapping[str, Any], additional_config: Mapping[str, Any] | None = None
    ) -> Any:
        """From lm-eval's `model_args`: run, and optionally checkpoint, device, context, batch_size, reuse.

        Raises:
            ConfigError: a setting that there is not, or a value that cannot be; all of them.
        """
        given = {key: value for key, value in (additional_config or {}).items() if value is not None}
        given.pop("max_batch_size", None)
        arguments = {**given, **arg_dict}
        allowed = f"allowed: {', '.join(_MODEL_ARGS)}"
        problems = [
            f"model_args: {key}={value}: there is no such setting; {allowed}{did_you_mean(closest(key, _MODEL_ARGS))}"
            for key, value in arguments.items()
            if key not in _MODEL_ARGS
        ]
        problems += [] if "run" in arguments else ["model_args: run=FOLDER is missing"]
        reuse = str(arguments.pop("reuse", True)).lower()
        problems += [] if reuse in ("true", "false") else [f"model_args: reuse={reuse}: must be true or false"]
        if problems:
            raise ConfigError(problems)
        place = {key: arguments.pop(key) for key in ("run", "checkpoint", "device") if key in arguments}
        run = load_run(place["run"], place.get("checkpoint", "last"), device=place.get("device", "cpu"))
        return cls(run, **arguments, reuse=reuse == "true")

    @classmethod
    def create_from_arg_string(cls, arg_string: str, additional_config: dict[str, Any] | None = None) -> Any:
        """As `create_from_arg_obj`, from `run=FOLDER,context=full`."""
        pairs = (part.partition("=") for part in arg_string.split(",") if part)
        return cls.create_from_arg_obj({key: value for key, _, value in pairs}, additional_config)

    @property
    def eot_token_id(self) -> int:
        """The end of a document, which also stands before the first token of one."""
        return self.text_tokenizer.end

    @property
    def device(self) -> torch.device:
        return torch.device(self._device)

    @property
    def tokenizer_name(self) -> str:
        return type(self.text_tokenizer).__name__

    def tok_encode(self, string: str, **_: Any) -> list[int]:
        """Tokens of a text; there are no special ones to add."""
        (encoded,) = self.text_tokenizer.encode([string])
        return [int(token) for token in encoded.tokens[:-1]]

    def loglikelihood(self, requests: Sequence[Instance], **_: Any) -> list[tuple[float, bool]]:
        """Log-probability of each continuation in nats, and whether it is greedy decoding's.

        Raises:
            ConfigError: a continuation is empty, which would be certain, and win over every other answer.
        """
        pairs = [self._encode_pair(*request.args) for request in requests]
        empty = [request for request, (_, continuation) in zip(requests, pairs, strict=True) if not continuation]
        if empty:
            raise ConfigError(
                [
                    f"{request.task_name or 'a request'}, document {request.doc_id}: the continuation after "
                    f"{str(request.args[0])[-40:]!r} is empty, and nothing of it can be scored"
                    for request in empty[:_MOST_NAMED]
                ]
            )
        return self._loglikelihood_tokens(
            [(request.args, *pair) for request, pair in zip(requests, pairs, strict=True)], name=_name(requests)
        )

    def _encode_pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        """Tokens of a context, at least one, and of a continuation.

        As in lm-eval, white space at the end of the context goes to the continuation, and the two are encoded as one.
        """
        kept = context.rstrip()
        before = self.tok_encode(kept)
        after = self.tok_encode(context + continuation)[len(before) :]
        # tokens across the border may leave nothing behind it
        return before or [self.prefix_token_id], after or self.tok_encode(context[len(kept) :] + continuation)

    def _loglikelihood_tokens(
        self, requests: Sequence[tuple[tuple[str, str], list[int], list[int]]], name: str = NAME, **_: Any
    ) -> list[tuple[float, bool]]:
        cut = [self.context.cut(Request(context, continuation)) for _, context, continuation in requests]
        self._warn(max((len(context) + len(continuation) - 1 for context, continuation in cut), default=0))
        with self._progress(name, len(cut)) as advance:
            return [(score.log_prob, score.is_greedy) for score in self.scorer.score(cut, advance)]

    def loglikelihood_rolling(self, requests: Sequence[Instance], **_: Any) -> list[float]:
        """Log-probability of each document in nats, under the rule `context`."""
        windows: list[Request] = []
        document: list[int] = []
        for index, request in enumerate(requests):
            found = self.context.windows(self.tok_encode(request.args[0]), self.prefix_token_id)
            windows += found
            document += [index] * len(found)
        self._warn(max((len(context) + len(scored) - 1 for context, scored in windows), default=0))
        totals = [0.0] * len(requests)
        with self._progress(_name(requests), len(windows)) as advance:
            scores = self.scorer.score(windows, advance)
        for index, score in zip(document, scores, strict=True):
            totals[index] += score.log_prob
        return totals

    def generate_until(self, requests: Sequence[Instance], **_: Any) -> list[str]:
        """A completion of each context, without the stop string that ended it."""
        groups: dict[Generation, list[int]] = defaultdict(list)
        for index, request in enumerate(requests):
            groups[read_generation(request.args[1])].append(index)
        with self._progress(_name(requests), len(requests)) as advance:
            texts = [""] * len(requests)
            for how, members in groups.items():
                self._complete(requests, how, members, texts, advance)
        return texts

    def _complete(
        self, requests: Sequence[Instance], how: Generation, members: list[int], texts: list[str], advance: Advance
    ) -> None:
        """Write the completions of the requests `members` to their places in `texts`."""
        room = self.context.prompt_room(how.max_new_tokens)
        prompts = {index: str(requests[index].args[0]) for index in members}
        # like lengths together: the shorter ones of a batch wait for the others
        members.sort(key=lambda index: len(prompts[index]))
        for start in range(0, len(members), self.batch_size):
            batch = members[start : start + self.batch_size]
            completions = self.generator.generate(
                [prompts[index] for index in batch],
                max_new_tokens=how.max_new_tokens,
                sampling=how.sampling,
                stop=how.stop,
                keep_last=room,
                # not their places in the batch: what is drawn must not depend on its size
                rows=batch,
            )
            for index, completion in zip(batch, completions, strict=True):
                texts[index] = completion.text
            advance(len(batch))

    def _warn(self, length: int) -> None:
        """Say once that a transformer reads farther than it was trained to."""
        if self.source.model.config.mixer == "attention" and length > self.source.train_length and not self._warned:
            self._warned = True
            logger.warning(
                "warning: inputs of up to %d tokens go beyond the %d tokens that this transformer was trained on; it "
                "has not learned positions there. context=windowed(%d) cuts them",
                length,
                self.source.train_length,
                self.source.train_length,
            )


def _name(requests: Sequence[Instance]) -> str:
    """Of the tasks that ask: one, or several of a group."""
    first, *others = dict.fromkeys(str(request.task_name or NAME) for request in requests) or (NAME,)
    return f"{first} and {len(others)} more" if others else first


def _whole_number(value: int | str) -> int:
    if not str(value).isdecimal() or int(value) < 1:
        raise ConfigError([f"batch_size={value}: must be a whole number from 1 on"])
    return int(value)
