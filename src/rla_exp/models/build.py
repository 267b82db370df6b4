"""From a configuration to an initialized model."""

from __future__ import annotations

import torch

from rla_exp.config.schema import ModelConfig
from rla_exp.errors import ConfigError
from rla_exp.models.init import initialize
from rla_exp.models.language_model import LanguageModel


def build_model(config: ModelConfig, vocab_size: int, seed: int | None = None) -> LanguageModel:
    """The language model that `config` describes, on the current default device.

    vocab_size: tokens that the data needs; the embedding has `config.vocab_size` rows where that is set.
    seed: of the parameters, which it determines wholly (see `rla_exp.models.init`), the same on every device;
    None draws one from PyTorch's global generator. On the meta device nothing is drawn.

    Raises ConfigError naming every key whose value does not fit the others.
    """
    problems = _problems(config, vocab_size)
    if problems:
        raise ConfigError(problems)
    # built without storage, for PyTorch's own initialization would cost time and draw from the global generator
    with torch.device("meta"):
        model = LanguageModel(config, vocab_size if config.vocab_size is None else config.vocab_size)
    device = torch.get_default_device()
    if device.type == "meta":
        return model
    if seed is None:
        seed = int(torch.randint(2**62, (), device="cpu"))
    model.to_empty(device=device)
    initialize(model, std=config.init_std, embedding_std=config.embedding_std or config.init_std, seed=seed)
    return model


def _problems(config: ModelConfig, vocab_size: int) -> list[str]:
    problems = []
    if config.vocab_size is not None and config.vocab_size < vocab_size:
        problems.append(
            f"model.vocab_size is {config.vocab_size}, but the data's tokens go up to {vocab_size - 1}; "
            f"set it to at least {vocab_size}, or to null to take what the data needs"
        )
    if (config.rotary or config.mixer == "attention") and config.head_dim_k % 2:
        problems.append(f"model.head_dim_k is {config.head_dim_k}; rotary positions need an even number")
    problems += _attention_problems(config) if config.mixer == "attention" else _linear_problems(config)
    return problems


def _attention_problems(config: ModelConfig) -> list[str]:
    problems = []
    if config.num_kv_heads is not None and config.num_heads % config.num_kv_heads:
        problems.append(
            f"model.num_heads is {config.num_heads}, no multiple of model.num_kv_heads, {config.num_kv_heads}; "
            "every key-value group serves equally many query heads"
        )
    if config.head_dim_v != config.head_dim_k:
        problems.append(
            f"model.head_dim_v is {config.head_dim_v} and model.head_dim_k {config.head_dim_k}; "
            "attention needs them equal"
        )
    return problems


def _linear_problems(config: ModelConfig) -> list[str]:
    problems = []
    if config.num_kv_heads is not None:
        problems.append(f"model.num_kv_heads is {config.num_kv_heads}; it is attention's alone: leave it null")
    if (config.residual == "off") != (config.gamma == "none"):
        problems.append(
            f"model.gamma is {config.gamma} and model.residual {config.residual}; "
            "gamma is none where the residual is off, else one of dedicated, tied, one"
        )
    if config.gamma == "tied" and config.write != "beta":
        problems.append(f"model.gamma is tied to beta, but model.write is {config.write}; set write to beta")
    if config.write == "dt" and config.decay != "learned":
        problems.append(f"model.write is dt, which the learned decay makes, but model.decay is {config.decay}")
    return problems
