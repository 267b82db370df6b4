"""How a task wants its completions made: lm-eval's generation_kwargs in our terms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from rla_exp.config.wording import closest, did_you_mean
from rla_exp.errors import ConfigError
from rla_exp.generation import Sampling

DEFAULT_MAX_NEW_TOKENS = 256
"""Where a task does not say, as lm-eval's own models have it."""
_LENGTHS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
_KNOWN = {"until", "do_sample", "temperature", "top_k", "top_p", *_LENGTHS}
# values that tasks write out though they change nothing
_NEUTRAL = {
    "top_p": (1,),
    "top_k": (0, -1),
    "min_p": (0,),
    "typical_p": (1,),
    "num_beams": (1,),
    "num_return_sequences": (1,),
    "length_penalty": (1,),
    "repetition_penalty": (1,),
    "no_repeat_ngram_size": (0,),
}


class Generation(NamedTuple):
    """How a completion is made; requests that agree in it go together."""

    stop: tuple[str, ...]
    max_new_tokens: int
    sampling: Sampling


def read_generation(arguments: Mapping[str, Any]) -> Generation:
    """From a task's generation_kwargs.

    Raises:
        ConfigError: settings that our generation does not have, all of them, or a value that cannot be.
    """
    given = {key: value for key, value in arguments.items() if value is not None and value not in _NEUTRAL.get(key, ())}
    unknown = sorted(given.keys() - _KNOWN)
    if unknown:
        allowed = f"allowed: {', '.join(sorted(_KNOWN))}"
        raise ConfigError(
            [
                f"generation_kwargs.{key}={given[key]}: not supported; {allowed}{did_you_mean(closest(key, _KNOWN))}"
                for key in unknown
            ]
        )
    until = given.get("until", [])
    stop = (until,) if isinstance(until, str) else tuple(until)
    # asked to sample and not told how warm, transformers samples at 1
    temperature = float(given.get("temperature", 1 if given.get("do_sample") else 0))
    if given.get("do_sample") is False or temperature == 0:
        sampling = Sampling()
    else:
        chosen = {name: given[name] for name in ("top_k", "top_p") if name in given}
        sampling = Sampling(temperature=temperature, **chosen)
    max_new_tokens = next((int(given[name]) for name in _LENGTHS if name in given), DEFAULT_MAX_NEW_TOKENS)
    return Generation(tuple(text for text in stop if text), max_new_tokens, sampling)
