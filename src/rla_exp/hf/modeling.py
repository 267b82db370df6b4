"""Our language models as transformers knows them: loaded, saved, trained further and generated from by its tools."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import GenerationMixin, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast
from transformers.utils import can_return_tuple

from rla_exp.data.batch import IGNORE
from rla_exp.hf.cache import RecurrentCache
from rla_exp.hf.configuration import RlaExpConfig
from rla_exp.hf.padding import real_tokens
from rla_exp.models import LanguageModel, build_model
from rla_exp.models.init import draw


class RlaExpForCausalLM(PreTrainedModel, GenerationMixin):
    """Any of our models; `model` is the `rla_exp.models.LanguageModel` itself.

    Made without values from a checkpoint, its parameters are drawn from PyTorch's global generator.
    """

    config_class = RlaExpConfig
    base_model_prefix = "model"
    # a state cannot take a token back
    _is_stateful = True
    # forward takes num_items_in_batch
    accepts_loss_kwargs = True

    def __init__(self, config: RlaExpConfig) -> None:
        super().__init__(config)
        device = torch.get_default_device()
        with torch.device("meta"):
            model = build_model(config.model_config(), config.vocab_size)
        self.model = model if device.type == "meta" else model.to_empty(device=device)
        self.post_init()

    @classmethod
    def around(cls, model: LanguageModel, config: RlaExpConfig) -> RlaExpForCausalLM:
        """The model itself in transformers' form; nothing is copied."""
        with torch.device("meta"):
            made = cls(config)
        made.model = model
        return made

    @can_return_tuple  # type: ignore[untyped-decorator]
    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        past_key_values: RecurrentCache | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int = 0,
        num_items_in_batch: Tensor | int | None = None,
    ) -> CausalLMOutputWithPast:
        """Logits of the next token.

        input_ids: [B, T]; with a cache, the tokens that follow those it has seen.
        attention_mask: [B, T], 0 at padding, which is left out of the computation wherever it stands; its logits mean
            nothing. With a cache [B, tokens seen + T], as `generate` has it, whose last T columns must not be padding.
        labels: [B, T], -100 where not scored; moved on by one inside, as everywhere in transformers. The first token
            behind padding is not scored: the column before it has no logits.
        use_cache: return one; None: where the model is not in training mode.
        logits_to_keep: compute them for so many last columns only; 0: for all.
        num_items_in_batch: what transformers' Trainer divides the summed loss by; None: the labels scored here.

        Raises:
            ValueError: shapes or padding that cannot be, or a cache of another kind.
        """
        if past_key_values is None and (not self.training if use_cache is None else use_cache):
            past_key_values = RecurrentCache()
        elif past_key_values is not None and not isinstance(past_key_values, RecurrentCache):
            raise ValueError(
                f"past_key_values is a {type(past_key_values).__name__}; this model goes on from a RecurrentCache, "
                "as it returns one"
            )
        hidden = self._hidden(input_ids, attention_mask, past_key_values)
        logits = self.model.head(hidden[:, -logits_to_keep:] if logits_to_keep else hidden)
        loss = None
        if labels is not None:
            if attention_mask is not None:
                behind_padding = F.pad(attention_mask[:, -labels.shape[1] : -1] == 0, (1, 0))
                labels = labels.masked_fill(behind_padding.to(labels.device), IGNORE)
            loss = self.loss_function(
                logits, labels, self.config.vocab_size, num_items_in_batch=num_items_in_batch, ignore_index=IGNORE
            )
        return CausalLMOutputWithPast(loss=loss, logits=logits, past_key_values=past_key_values)

    def _hidden(self, tokens: Tensor, mask: Tensor | None, cache: RecurrentCache | None) -> Tensor:
        """What the head reads, [B, T, d_model], zero at padding. The cache is moved on."""
        real = real_tokens(tokens, mask, 0 if cache is None else cache.columns)
        rows = None
        if cache is not None:
            if cache.rows is None:
                cache.rows = self.model.new_cache(len(tokens))
            else:
                cache.check_continuation(tokens, real)
            rows = cache.rows
            cache.columns += tokens.shape[1]
        if real is None:
            return self.model.hidden(tokens, cache=rows)
        offsets = F.pad(real.sum(dim=1).cumsum(0), (1, 0))
        # attention pads rows of different lengths where it has a cache, and else computes a square of all tokens
        rows = self.model.new_cache(len(tokens)) if rows is None else rows
        hidden = self.model.hidden(tokens[real][None], cu_seqlens=offsets, cache=rows)[0]
        placed = hidden.new_zeros(*tokens.shape, hidden.shape[-1])
        placed[real] = hidden
        return placed

    def prepare_inputs_for_generation(
        self, input_ids: Tensor, *args: Any, attention_mask: Tensor | None = None, **kwargs: Any
    ) -> dict[str, Any]:
        """transformers' own, which reads the next token off the last column.

        Raises:
            ValueError: the last column has padding.
        """
        if attention_mask is not None and not attention_mask[:, -1].all():
            raise ValueError(
                "generation goes on from the last column, but attention_mask has padding there; pad on the left: "
                "tokenizer.padding_side = 'left'"
            )
        inputs: dict[str, Any] = super().prepare_inputs_for_generation(
            input_ids, *args, attention_mask=attention_mask, **kwargs
        )
        return inputs

    @classmethod
    def _supports_default_dynamic_cache(cls) -> bool:
        # the cache is made in forward
        return False

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Draw what no checkpoint has given: transformers marks the parameters that it has read."""
        config = self.config.model_config()
        std, embedding_std = config.init_std, config.embedding_std or config.init_std
        for name, parameter in module.named_parameters(recurse=False):
            if not getattr(parameter, "_is_hf_initialized", False):
                generator = torch.default_generator
                parameter.copy_(draw(module, name, std=std, embedding_std=embedding_std, generator=generator))

    def get_input_embeddings(self) -> nn.Module:
        return self.model.embedding

    def set_input_embeddings(self, value: nn.Embedding) -> None:
        self.model.embedding = value

    def get_output_embeddings(self) -> nn.Module | None:
        """None where embedding and head are one matrix: there is a single parameter then, saved once."""
        return self.model.output

    def set_output_embeddings(self, new_embeddings: nn.Linear) -> None:
        self.model.output = new_embeddings
