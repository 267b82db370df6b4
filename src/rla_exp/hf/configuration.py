"""The transformers configuration of a model of ours: the `model` section of its run, and the size of its vocabulary."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from functools import cache
from typing import Any

from pydantic import TypeAdapter, ValidationError
from transformers import PreTrainedConfig

from rla_exp.config.schema import ModelConfig
from rla_exp.errors import ConfigError


class RlaExpConfig(PreTrainedConfig):
    """config.json of an exported model.

    model: the keys of `rla_exp.config.schema.ModelConfig`; empty in transformers' own empty configurations alone.
    vocab_size: rows of the embedding; it stands for the section's own key, which is left null.
    max_position_embeddings: longest sequence of the training, where the model's positions are bound to it.
    """

    model_type = "rla_exp"
    keys_to_ignore_at_inference = ("past_key_values",)

    def __init__(
        self,
        model: Mapping[str, Any] | None = None,
        vocab_size: int = 0,
        max_position_embeddings: int | None = None,
        **kwargs: Any,
    ) -> None:
        self.model = dict(model or {})
        self.vocab_size = vocab_size
        self.max_position_embeddings = max_position_embeddings
        kwargs["tie_word_embeddings"] = bool(self.model.get("tie_embeddings", False))
        super().__init__(**kwargs)

    @classmethod
    def of(cls, config: ModelConfig, *, vocab_size: int, **kwargs: Any) -> RlaExpConfig:
        """The configuration of a model of ours; what computes the operator is left to the machine that loads it."""
        return cls(model={**asdict(config), "vocab_size": None, "backend": "auto"}, vocab_size=vocab_size, **kwargs)

    def model_config(self) -> ModelConfig:
        """The typed `model` section.

        Raises:
            ConfigError: config.json was written by hand or by another version; names every key that is wrong.
        """
        try:
            return _adapter().validate_json(json.dumps(self.model), strict=True)
        except ValidationError as error:
            raise ConfigError(
                [
                    f"config.json: model.{'.'.join(map(str, problem['loc']))}: {problem['msg']}"
                    for problem in error.errors()
                ]
            ) from None

    # names that transformers' tools look for
    @property
    def hidden_size(self) -> int:
        return int(self.model["d_model"])

    @property
    def num_hidden_layers(self) -> int:
        return int(self.model["num_layers"])

    @property
    def num_attention_heads(self) -> int:
        return int(self.model["num_heads"])


@cache
def _adapter() -> TypeAdapter[ModelConfig]:
    return TypeAdapter(ModelConfig)
