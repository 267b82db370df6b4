"""Training and evaluating any language model: one LightningModule."""

from __future__ import annotations

import math
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from torch.optim.lr_scheduler import LambdaLR

from rla_exp.config.schema import RunConfig
from rla_exp.data import EvalSplit
from rla_exp.errors import NonFiniteError
from rla_exp.lit.datamodule import LanguageDataModule
from rla_exp.lit.nonfinite import first_nonfinite_layer, last_nonfinite_gradient
from rla_exp.lit.schedule import lr_factor
from rla_exp.lit.scored import ScoredBatch, mean_loss, summed_loss
from rla_exp.lit.totals import Totals
from rla_exp.models import LanguageModel
from rla_exp.models.block import run_block


class LanguageModule(LightningModule):
    """AdamW on the cross entropy of the labelled tokens; stops before a step that is not finite.

    After an optimizer step `loss` (mean over the accumulated batches, nats), `grad_norm` (before clipping) and `lr` are
    the step's. `held_out` has the metrics of the last validation and test, as "valid/loss", "test/accuracy", ...
    """

    def __init__(self, model: LanguageModel, config: RunConfig) -> None:
        super().__init__()
        self.model = model
        self.config = config
        self.loss = math.nan
        self.grad_norm = math.nan
        self.lr = math.nan
        self.held_out: dict[str, float] = {}
        # of training alone: held-out batches have other shapes, each of which would be compiled anew
        self._run_block, self._mean_loss = run_block, mean_loss
        if config.trainer.compile:
            self._run_block, self._mean_loss = torch.compile(run_block), torch.compile(mean_loss)
        # the batches of the step under way: to find the layer, should they turn out not to be finite
        self._batches: list[ScoredBatch] = []
        self._losses: list[Tensor] = []
        self._totals = Totals()

    def configure_optimizers(self) -> OptimizerLRScheduler:
        optim, trainer = self.config.optim, self.config.trainer
        optimizer = torch.optim.AdamW(
            self.model.parameter_groups(optim.weight_decay),
            lr=optim.lr,
            betas=(optim.beta1, optim.beta2),
            eps=optim.eps,
            # one call for all parameters; under a gradient scaler it would unscale by itself, after clipping
            fused=trainer.precision != "16-mixed",
        )
        scheduler = LambdaLR(optimizer, lambda step: lr_factor(step, optim, trainer.max_steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def training_step(self, batch: ScoredBatch, batch_idx: int) -> Tensor:
        hidden = self.model.hidden(batch.tokens, cu_seqlens=batch.cu_seqlens, run=self._run_block)
        loss = self._mean_loss(self.model, hidden, batch.targets, batch.positions)
        self._batches.append(batch)
        self._losses.append(loss.detach())
        return loss

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip by the norm; Lightning calls this right before every optimizer step, so the step is judged here.

        Raises:
            NonFiniteError: the loss or a gradient is not finite; the parameters are still those before the step.
        """
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        norm = get_total_norm([parameter.grad for parameter in parameters if parameter.grad is not None])
        # one wait for the device for both
        self.loss, self.grad_norm = torch.stack([torch.stack(self._losses).float().mean(), norm.float()]).tolist()
        # with a gradient scaler, infinite gradients are how it finds its scale: it skips the step by itself
        scaled = self.config.trainer.precision == "16-mixed"
        if not math.isfinite(self.loss) or not (scaled or math.isfinite(self.grad_norm)):
            raise self._nonfinite_error()
        self.lr = optimizer.param_groups[0]["lr"]
        if gradient_clip_val is not None:
            clip_grads_with_norm_(parameters, gradient_clip_val, norm)
        self._batches, self._losses = [], []

    def on_validation_epoch_start(self) -> None:
        self._totals = Totals()

    def validation_step(self, batch: ScoredBatch, batch_idx: int) -> None:
        self._evaluate(batch)

    def on_validation_epoch_end(self) -> None:
        self._summarize("valid")

    def on_test_epoch_start(self) -> None:
        self._totals = Totals()

    def test_step(self, batch: ScoredBatch, batch_idx: int) -> None:
        self._evaluate(batch)

    def on_test_epoch_end(self) -> None:
        self._summarize("test")

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["held_out"] = self.held_out

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.held_out = checkpoint["held_out"]

    def _evaluate(self, batch: ScoredBatch) -> None:
        hidden = self.model.hidden(batch.tokens, cu_seqlens=batch.cu_seqlens)
        loss, logits = summed_loss(self.model, hidden, batch)
        nats = loss.item()
        if not math.isfinite(nats):
            layer = self._nonfinite_layer([batch]) or "the loss"
            raise NonFiniteError(self.global_step, layer, "held-out loss")
        self._datamodule.count(self._totals, batch, nats, logits)

    @property
    def _datamodule(self) -> LanguageDataModule:
        datamodule = self.trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(datamodule, LanguageDataModule)
        return datamodule

    def _summarize(self, split: EvalSplit) -> None:
        metrics = {f"{split}/{name}": value for name, value in self._datamodule.metrics(self._totals, split).items()}
        self.held_out = {**self.held_out, **metrics}

    def _nonfinite_error(self) -> NonFiniteError:
        step = self.global_step + 1
        what = "gradient" if math.isfinite(self.loss) else "loss"
        # gradients first: the rerun leaves them alone
        by_gradient = last_nonfinite_gradient(self.model)
        layer = self._nonfinite_layer(self._batches) or by_gradient or "the loss"
        return NonFiniteError(step, layer, what)

    def _nonfinite_layer(self, batches: list[ScoredBatch]) -> str | None:
        def forward() -> None:
            with self.trainer.precision_plugin.forward_context():
                for batch in batches:
                    hidden = self.model.hidden(batch.tokens, cu_seqlens=batch.cu_seqlens)
                    mean_loss(self.model, hidden, batch.targets, batch.positions)

        return first_nonfinite_layer(self.model, forward)
