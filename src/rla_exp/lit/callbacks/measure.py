"""Loss, learning rate, gradient norm and throughput of the training steps."""

from __future__ import annotations

import time
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from rla_exp.lit.live_status import LiveStatus
from rla_exp.lit.logger import Recorder
from rla_exp.lit.module import LanguageModule
from rla_exp.lit.scored import ScoredBatch
from rla_exp.lit.timing import Timing


class Measure(Callback):
    """Writes train/loss (mean since the last line), train/lr, train/grad_norm, tokens_per_s every `log_every` steps.

    Nothing else is logged a step: Lightning's own logging costs about as much as a small model's step.
    """

    def __init__(self, recorder: Recorder, status: LiveStatus, timing: Timing, log_every: int) -> None:
        self._recorder = recorder
        self._status = status
        self._timing = timing
        self._log_every = log_every
        self._loss_sum = 0.0
        self._num_losses = 0
        self._tokens = 0
        self._mark = 0.0

    def state_dict(self) -> dict[str, Any]:
        return {"loss_sum": self._loss_sum, "num_losses": self._num_losses, "timing": self._timing.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._loss_sum = state_dict["loss_sum"]
        self._num_losses = state_dict["num_losses"]
        self._timing.load_state_dict(state_dict["timing"])

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._mark = time.perf_counter()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, LanguageModule)
        self._recorder.add({key: value for key, value in pl_module.held_out.items() if key.startswith("valid/")})
        # validation is no part of a training step
        self._mark = time.perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: ScoredBatch, batch_idx: int
    ) -> None:
        self._tokens += batch.tokens.numel()
        if (batch_idx + 1) % trainer.accumulate_grad_batches:
            return
        assert isinstance(pl_module, LanguageModule)
        # from the end of one step to the end of the next: what a callback does in between is in few steps only, and
        # the median over steps does not see it
        now = time.perf_counter()
        self._timing.add_step(self._tokens, now - self._mark)
        self._mark, self._tokens = now, 0
        self._loss_sum += pl_module.loss
        self._num_losses += 1
        step = trainer.global_step
        self._status.update(step, pl_module.loss, self._timing.recent_tokens_per_s)
        if step % self._log_every == 0 or step == trainer.max_steps:
            self._recorder.add(
                {
                    "train/loss": self._loss_sum / self._num_losses,
                    "train/lr": pl_module.lr,
                    "train/grad_norm": pl_module.grad_norm,
                    "tokens_per_s": self._timing.recent_tokens_per_s,
                }
            )
            self._loss_sum, self._num_losses = 0.0, 0
