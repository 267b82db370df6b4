"""A causal language model: embedding, pre-norm blocks, norm, head."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rla_exp.config.schema import ModelConfig
from rla_exp.models.block import Block, run_block
from rla_exp.models.cache import Cache
from rla_exp.models.linear_mixer import LinearMixer
from rla_exp.models.rms_norm import RMSNorm
from rla_exp.models.sequence_layout import SequenceLayout


class LanguageModel(nn.Module):
    """Made by `build_model`, which checks the config and draws the parameters.

    Tokens are [B, T] integers in [0, vocab_size). With cu_seqlens [N + 1], B is 1 and the T axis packs N documents
    between which nothing passes. With a cache, tokens follow those that the cache has seen; with both, document n
    follows row n of the cache.
    """

    def __init__(self, config: ModelConfig, vocab_size: int) -> None:
        super().__init__()
        self.config = config
        self.vocab_size = vocab_size
        self.embedding = nn.Embedding(vocab_size, config.d_model)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.num_layers))
        self.norm = RMSNorm(config.d_model, config.norm_eps)
        self.output = None if config.tie_embeddings else nn.Linear(config.d_model, vocab_size, bias=False)

    def forward(self, tokens: Tensor, *, cu_seqlens: Tensor | None = None, cache: Cache | None = None) -> Tensor:
        """Logits of the next token, [B, T, vocab_size]."""
        return self.head(self.hidden(tokens, cu_seqlens=cu_seqlens, cache=cache))

    def hidden(
        self,
        tokens: Tensor,
        *,
        cu_seqlens: Tensor | None = None,
        cache: Cache | None = None,
        run: Callable[..., Tensor] = run_block,
    ) -> Tensor:
        """What the head reads, [B, T, d_model]; the cache is moved on in place, by the operator's step where T = 1.

        Args:
            run: calls a block, as `run_block` does; a compiled one in training.
        """
        layout = self._layout(tokens, cu_seqlens, cache)
        x = self.embedding(tokens)
        for index, block in enumerate(self._blocks()):
            x = run(block, x, layout, None if cache is None else cache.layers[index])
        if cache is not None:
            cache.advance(tokens.shape[1] if cu_seqlens is None else cu_seqlens.diff())
        normalized: Tensor = self.norm(x)
        return normalized

    def head(self, hidden: Tensor) -> Tensor:
        """[..., d_model] to logits [..., vocab_size]."""
        weight = self.embedding.weight if self.output is None else self.output.weight
        return F.linear(hidden, weight)

    def new_cache(
        self, batch_size: int, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> Cache:
        """A cache that has seen nothing; device and dtype default to the parameters'. States are at least float32."""
        weight = self.embedding.weight
        device = weight.device if device is None else torch.device(device)
        layers = [
            block.mixer.new_cache(batch_size, device=device, dtype=dtype or weight.dtype) for block in self._blocks()
        ]
        return Cache(layers, batch_size)

    def state_bytes(self, length: int) -> int:
        """Bytes in float32 that decoding carries for one sequence of `length` tokens.

        S, R and the convolutions' windows, which do not depend on the length; keys and values for attention.
        """
        return sum(block.mixer.state_bytes(length) for block in self._blocks())

    def parameter_groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """AdamW's groups: weight decay on the matrices of linear layers and embeddings, none on any other parameter."""
        decayed = {id(module.weight) for module in self.modules() if isinstance(module, nn.Linear | nn.Embedding)}
        parameters = list(self.parameters())
        return [
            {"params": [p for p in parameters if id(p) in decayed], "weight_decay": weight_decay},
            {"params": [p for p in parameters if id(p) not in decayed], "weight_decay": 0.0},
        ]

    @torch.no_grad()
    def operator_calls(self, tokens: Tensor, cu_seqlens: Tensor | None = None) -> dict[str, dict[str, Any]]:
        """By layer name ("blocks.0.mixer"), the arguments with which the layer calls `linear_attention` on the tokens.

        Empty for attention. Without gradients; made for `rla_exp.kernels.diagnose`.
        """
        layout = self._layout(tokens, cu_seqlens, None)
        x = self.embedding(tokens)
        calls = {}
        for index, block in enumerate(self._blocks()):
            if isinstance(block.mixer, LinearMixer):
                calls[f"blocks.{index}.mixer"] = block.mixer.operator_call(block.mixer_norm(x), layout)
            x = block(x, layout)
        return calls

    def _blocks(self) -> Iterator[Block]:
        return iter(cast("list[Block]", self.blocks))

    def _layout(self, tokens: Tensor, cu_seqlens: Tensor | None, cache: Cache | None) -> SequenceLayout:
        if tokens.ndim != 2:
            raise ValueError(f"tokens must be [B, T], got shape {tuple(tokens.shape)}")
        batch_size, length = tokens.shape
        if cu_seqlens is not None:
            if cache is not None and len(cu_seqlens) - 1 != cache.batch_size:
                num_documents = len(cu_seqlens) - 1
                raise ValueError(
                    f"the cache holds {cache.batch_size} sequences, cu_seqlens {num_documents}; they must be equal"
                )
            if batch_size != 1:
                raise ValueError(f"cu_seqlens packs sequences into one row of tokens, got {batch_size} rows")
            if cache is None:
                return SequenceLayout.packed(length, cu_seqlens)
            return SequenceLayout.packed(length, cu_seqlens, start=cache.length, starts=cache.lengths)
        if cache is not None and cache.batch_size != batch_size:
            raise ValueError(f"the cache holds {cache.batch_size} sequences, tokens {batch_size}; they must be equal")
        if cache is None:
            return SequenceLayout.consecutive(length, start=0, device=tokens.device)
        return SequenceLayout.consecutive(length, start=cache.length, device=tokens.device, starts=cache.lengths)
