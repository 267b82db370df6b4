"""What goes on inside the layers: gates, residuals, states, activations."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn

from rla_exp.kernels import diagnose
from rla_exp.lit.logger import Recorder
from rla_exp.lit.module import LanguageModule
from rla_exp.lit.scored import ScoredBatch
from rla_exp.models import LanguageModel

# enough for a mean, few enough to be cheap
NUM_SEQUENCES = 4


class Diagnostics(Callback):
    """Writes diag/grad_norm and, for each layer i, every `every` steps, on the first sequences of the step's batch:

    diag/layer<i>/decay_mean, decay_std, beta_mean, beta_std, gamma_mean, gamma_std    where the layer has the gate
    diag/layer<i>/residual_norm, share_clipped                                         where it fits residuals
    diag/layer<i>/S_norm, R_norm                                                       mean over heads
    diag/layer<i>/activation_max                                                       of the block's output
    """

    def __init__(self, recorder: Recorder, every: int) -> None:
        self._recorder = recorder
        self._every = every

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: ScoredBatch, batch_idx: int
    ) -> None:
        if (batch_idx + 1) % trainer.accumulate_grad_batches or trainer.global_step % self._every:
            return
        assert isinstance(pl_module, LanguageModule)
        tokens, cu_seqlens = first_sequences(batch, NUM_SEQUENCES)
        pl_module.model.eval()
        with trainer.precision_plugin.forward_context():
            values = layer_diagnostics(pl_module.model, tokens, cu_seqlens)
        pl_module.model.train()
        self._recorder.add({"diag/grad_norm": pl_module.grad_norm, **values})


@contextmanager
def _largest_outputs(model: LanguageModel) -> Iterator[dict[int, Tensor]]:
    """While a forward pass runs, the largest absolute entry of each block's output, by the block's index."""
    largest: dict[int, Tensor] = {}

    def keep(index: int, block: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        largest[index] = output.abs().max()

    hooks = [block.register_forward_hook(partial(keep, index)) for index, block in enumerate(model.blocks)]
    try:
        yield largest
    finally:
        for hook in hooks:
            hook.remove()


@torch.no_grad()
def layer_diagnostics(model: LanguageModel, tokens: Tensor, cu_seqlens: Tensor | None) -> dict[str, float]:
    """The diagnostics of every layer on these tokens, with the keys of metrics.jsonl."""
    values: dict[str, Tensor] = {}
    with _largest_outputs(model) as largest:
        calls = model.operator_calls(tokens, cu_seqlens)
    for index, peak in largest.items():
        values[f"diag/layer{index}/activation_max"] = peak
    for name, call in calls.items():
        layer = f"diag/layer{name.split('.')[1]}"
        decay = None if call.get("g") is None else call["g"].exp()
        for gate, value in (("decay", decay), ("beta", call.get("beta")), ("gamma", call.get("gamma"))):
            if value is not None:
                values[f"{layer}/{gate}_mean"] = value.float().mean()
                values[f"{layer}/{gate}_std"] = value.float().std()
        for statistic, per_head in diagnose(**call)._asdict().items():
            if per_head is not None:
                values[f"{layer}/{statistic}"] = per_head.float().mean()
    numbers = torch.stack([value.float() for value in values.values()]).tolist()
    return dict(zip(values, numbers, strict=True))


def first_sequences(batch: ScoredBatch, count: int) -> tuple[Tensor, Tensor | None]:
    """Tokens and cu_seqlens of the first `count` sequences of a batch."""
    if batch.cu_seqlens is None:
        return batch.tokens[:count], None
    cu_seqlens = batch.cu_seqlens[: count + 1]
    return batch.tokens[:, : int(cu_seqlens[-1])], cu_seqlens
