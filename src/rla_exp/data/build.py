"""From a `data` section to data."""

from __future__ import annotations

from pathlib import Path

from rla_exp.config.schema import MqarConfig, TextConfig
from rla_exp.data.batch import CorpusFingerprint, Data
from rla_exp.data.mqar import MqarData


def build_data(config: MqarConfig | TextConfig, *, seed: int, cache_dir: Path, progress: bool = False) -> Data:
    """Generate, or read and tokenize, the data of a run.

    Args:
        seed: of the order of training, and of generated data.
        cache_dir: folder of token caches and trained tokenizers (text only); created when needed.
        progress: show a bar while text is read and tokenized.

    Raises:
        ConfigError: settings that cannot be, all of them at once.
        DataError: a file, corpus or tokenizer that cannot be used as it is.
    """
    if isinstance(config, MqarConfig):
        return MqarData(config, seed)
    raise NotImplementedError


def corpus_fingerprint(config: MqarConfig | TextConfig, cache_dir: Path) -> CorpusFingerprint | None:
    """Identify the text that `build_data` would use, without tokenizing it; None for generated data."""
    if isinstance(config, MqarConfig):
        return None
    raise NotImplementedError
