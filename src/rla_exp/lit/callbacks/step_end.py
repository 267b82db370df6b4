"""The end of an optimizer step: its line is written, a checkpoint saved, a request to stop obeyed."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn

from rla_exp.config.schema import TrainerConfig
from rla_exp.errors import InterruptedRun
from rla_exp.lit.checkpoint import LAST
from rla_exp.lit.logger import Recorder
from rla_exp.lit.scored import ScoredBatch
from rla_exp.lit.stopping import StopRequest

logger = logging.getLogger(__name__)


class StepEnd(Callback):
    """Last of the callbacks. Where a validation is due, the step ends after it, so that no resumed run skips it."""

    def __init__(self, folder: Path, config: TrainerConfig, recorder: Recorder, stop: StopRequest) -> None:
        self._last = folder / LAST
        self._config = config
        self._recorder = recorder
        self._stop = stop

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # the Trainer has set a handler of its own
        self._stop.listen()
        self._stop.waits_for_step = True

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._stop.waits_for_step = False

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: ScoredBatch, batch_idx: int
    ) -> None:
        if (batch_idx + 1) % trainer.accumulate_grad_batches:
            return
        step = trainer.global_step
        every = self._config.validate_every
        if step == trainer.max_steps:
            # lets Lightning validate here too, whatever the interval
            trainer.should_stop = True
        elif every is None or step % every:
            self._end(trainer, step)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn == TrainerFn.FITTING:
            self._end(trainer, trainer.global_step)

    def _end(self, trainer: Trainer, step: int) -> None:
        self._recorder.flush(step)
        every = self._config.checkpoint_every
        stopped_by = self._stop.received
        if step == trainer.max_steps or stopped_by or (every is not None and step % every == 0):
            trainer.save_checkpoint(self._last, weights_only=False)
            logger.info("step %d: checkpoint saved", step)
        if stopped_by:
            self._stop.waits_for_step = False
            raise InterruptedRun(f"stopped by {stopped_by} after step {step}; the same command goes on from there")
