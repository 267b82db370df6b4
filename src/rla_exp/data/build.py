"""From a `data` section to data."""

from __future__ import annotations

from pathlib import Path

from rla_exp.config.schema import MqarConfig, TextConfig
from rla_exp.data.batch import CorpusFingerprint, Data
from rla_exp.data.corpus import text_fingerprint
from rla_exp.data.mqar import MqarData
from rla_exp.data.text import TextData, text_problems
from rla_exp.errors import ConfigError


def build_data(config: MqarConfig | TextConfig, *, seed: int, cache_dir: Path, progress: bool = False) -> Data:
    """Generate, or read and tokenize, the data of a run.

    Args:
        seed: of the order of training, and of generated data.
        cache_dir: folder of corpora, tokenizers and tokens (text only); created when needed.
        progress: show a bar while text is read and tokenized.

    Raises:
        ConfigError: settings that cannot be, all of them at once.
        DataError: a file, corpus or tokenizer that cannot be used as it is.
    """
    if isinstance(config, MqarConfig):
        return MqarData(config, seed)
    return TextData(config, seed, cache_dir, progress=progress)


def corpus_fingerprint(config: MqarConfig | TextConfig, cache_dir: Path) -> CorpusFingerprint | None:
    """Identify the text that `build_data` would use, without tokenizing it; None for generated data.

    Reads the source into the cache if it is not there yet.

    Raises:
        ConfigError, DataError: as `build_data`.
    """
    if isinstance(config, MqarConfig):
        return None
    problems = text_problems(config)
    if problems:
        raise ConfigError(problems)
    return text_fingerprint(config, cache_dir)
