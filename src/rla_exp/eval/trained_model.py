"""A model with what it was trained on: all that an evaluation asks for."""

from __future__ import annotations

from dataclasses import dataclass

from rla_exp.config.schema import MqarConfig, RunConfig, TextConfig
from rla_exp.data.tokenizer import Tokenizer
from rla_exp.models import LanguageModel


@dataclass(frozen=True)
class TrainedModel:
    """Of a run that is finished, or under way."""

    config: RunConfig
    model: LanguageModel
    """In float32, in evaluation mode."""
    tokenizer: Tokenizer | None
    """None where the run's data are no text (MQAR)."""

    @property
    def train_length(self) -> int:
        """Tokens of the longest sequence that the model was trained on."""
        return trained_length(self.config.data)


def trained_length(config: MqarConfig | TextConfig) -> int:
    """Tokens of the longest training sequence."""
    return config.seq_len if isinstance(config, TextConfig) else max(segment.length for segment in config.train)
