"""Which settings do nothing under which others.

A setting without effect is refused: whoever types it expects it to do something.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from rla_exp.config.keys import schema_keys
from rla_exp.config.schema import RunConfig
from rla_exp.config.typed import Problem
from rla_exp.config.wording import listed, show


@dataclass(frozen=True)
class Effect:
    """Keys that do something only where one of `needs` holds."""

    keys: tuple[str, ...]
    needs: tuple[tuple[str, Any], ...]


# the first line that holds of a key is the one that is reported
EFFECTS = (
    Effect(
        ("model.residual", "model.gamma", "model.clip", "model.output", "model.decayed_prediction"),
        needs=(("model.name", "rla"), ("model.name", "rdn")),
    ),
    Effect(("model.clip", "model.decayed_prediction"), needs=(("model.residual", "fit"),)),
    Effect(("model.gamma", "model.output"), needs=(("model.residual", "fit"), ("model.residual", "value"))),
    Effect(
        (
            "model.rule",
            "model.decay",
            "model.write",
            "model.qk_norm",
            "model.qk_activation",
            "model.v_activation",
            "model.rotary",
            "model.conv_size",
            "model.output_gate",
            "model.skip",
            "model.backend",
        ),
        needs=(("model.mixer", "linear"),),
    ),
    Effect(("model.num_kv_heads",), needs=(("model.mixer", "attention"),)),
    Effect(("model.rope_base",), needs=(("model.mixer", "attention"), ("model.rotary", True))),
    Effect(("model.decayed_prediction",), needs=(("model.decay", "learned"), ("model.decay", "fixed"))),
    Effect(("data.bpe_vocab_size",), needs=(("data.tokenizer", "bpe"),)),
    Effect(("data.paths", "data.test_paths"), needs=(("data.source", "files"),)),
    Effect(("data.test_fraction",), needs=(("data.test_paths", []),)),
    Effect(("data.text_key",), needs=(("data.source", "files"), ("data.source", "hub"))),
    Effect(
        ("data.hub_name", "data.hub_config", "data.hub_revision", "data.streaming"), needs=(("data.source", "hub"),)
    ),
    Effect(("logger.project", "logger.entity", "logger.tags"), needs=(("logger.kind", "wandb"),)),
)


def idle(config: RunConfig, explicit: Collection[str]) -> Iterator[Problem]:
    """Settings without effect: typed ones at any value, ones from files where they differ from the default."""
    for name, effect in without_effect(config).items():
        value = _get(config, name)
        if name in explicit or value != schema_keys()[name].default:
            reads = tuple(dict.fromkeys(need for need, _ in effect.needs))
            now = listed(list(dict.fromkeys(_said(config, need, _get(config, need)) for need in reads)), "and")
            needed = listed([_said(config, need, value) for need, value in effect.needs])
            yield Problem((name, *reads), f"{name}={show(value)}: has no effect with {now}; it needs {needed}")


def without_effect(config: RunConfig) -> dict[str, Effect]:
    """The keys that do nothing in this configuration, each with the rule that says so."""
    found: dict[str, Effect] = {}
    for effect in EFFECTS:
        known = all(_has(config, name) for name, _ in effect.needs)
        if known and not any(_get(config, name) == value for name, value in effect.needs):
            for name in effect.keys:
                found.setdefault(name, effect)
    return found


def _said(config: RunConfig, name: str, value: Any) -> str:
    if name == "model.name":
        return f"model={value}"
    if name == "model.mixer":
        return f"model={config.model.name}" if value == config.model.mixer else f"a model with {value} mixers"
    return f"{name}={show(value)}"


def _has(config: RunConfig, name: str) -> bool:
    section, _, key = name.partition(".")
    return hasattr(getattr(config, section), key)


def _get(config: RunConfig, name: str) -> Any:
    return attrgetter(name)(config)
