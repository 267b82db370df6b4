"""What a run costs, by arithmetic: tokens, floating-point operations, memory."""

from __future__ import annotations

from rla_exp.config.schema import ModelConfig, MqarConfig, RunConfig, TextConfig

GPT2_VOCAB_SIZE = 50257
"""Assumed for a tokenizer of the hub, which a plan does not fetch."""


def vocab_size(config: RunConfig) -> tuple[int, bool]:
    """Rows of the embedding, and whether they are known without reading data."""
    if config.model.vocab_size is not None:
        return config.model.vocab_size, True
    data = config.data
    if isinstance(data, MqarConfig):
        return data.vocab_size, True
    if data.tokenizer in ("bytes", "bpe"):
        return (257 if data.tokenizer == "bytes" else data.bpe_vocab_size), True
    return GPT2_VOCAB_SIZE, False


def train_length(data: MqarConfig | TextConfig) -> int:
    """Tokens of the longest training sequence."""
    return data.seq_len if isinstance(data, TextConfig) else max(segment.length for segment in data.train)


def train_tokens(config: RunConfig) -> int:
    """Tokens of all training steps. MQAR's batches have sequences of one length each: their mean is taken."""
    data = config.data
    length = float(train_length(data))
    if isinstance(data, MqarConfig):
        examples = sum(segment.num_examples for segment in data.train)
        length = sum(segment.length * segment.num_examples for segment in data.train) / examples
    return round(config.trainer.max_steps * config.trainer.accumulate * data.batch_size * length)


def operator_flops(model: ModelConfig, length: int) -> float:
    """Multiplications and additions a token of the token mixers beyond their projections, forward."""
    if model.mixer == "attention":
        # q k^T and its product with v, over half of the positions
        per_layer = 2.0 * length * model.num_heads * model.head_dim_k
    else:
        # reading and writing a state of K x V, two of them where residuals are fitted, and the prediction
        states = 1 if model.residual == "off" else 2
        reads = states + (1 if model.rule == "delta" else 0) * states + (1 if model.residual == "fit" else 0)
        per_layer = 2.0 * model.num_heads * model.head_dim_k * model.head_dim_v * (states + reads)
    return model.num_layers * per_layer


def train_flops(config: RunConfig, matrix_parameters: int) -> float:
    """Floating-point operations of a training run; see flops_per_token."""
    return flops_per_token(config, matrix_parameters) * train_tokens(config)


def flops_per_token(config: RunConfig, matrix_parameters: int) -> float:
    """Floating-point operations of training on a token: forward, and backward at twice that.

    matrix_parameters: those that multiply every token; the embedding's rows are only looked up.
    """
    return 3.0 * (2.0 * matrix_parameters + operator_flops(config.model, train_length(config.data)))


def train_memory(config: RunConfig, parameters: int) -> float:
    """Bytes of training, roughly: weights, gradients and AdamW's moments in float32, and what the backward pass keeps.

    Kept a token and layer: about 16 vectors of the width and 4 of the MLP's; then the logits, in float32, twice.
    """
    model, data = config.model, config.data
    tokens = data.batch_size * train_length(data)
    width = 2 if config.trainer.precision != "32" else 4
    kept = model.num_layers * (16 * model.d_model + 4 * (model.mlp_dim or 0)) * width * tokens
    logits = 2 * 4 * vocab_size(config)[0] * tokens
    return 16.0 * parameters + kept + logits
