"""What a run relies on of the fused kernels, in its environment.json: their self-checks, and tiles that were timed."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from rla_exp.kernels import self_checks, tuned_tiles
from rla_exp.lit.scored import ScoredBatch
from rla_exp.runs import RunFolder


class SelfChecks(Callback):
    """Writes them after the first batch that needed them: kernels are checked (and timed) when they are first used."""

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self._num_written = {"self_checks": 0, "tuned_tiles": 0}

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: ScoredBatch, batch_idx: int
    ) -> None:
        self._write()

    def on_validation_batch_end(self, *_: Any, **__: Any) -> None:
        self._write()

    def on_test_batch_end(self, *_: Any, **__: Any) -> None:
        self._write()

    def _write(self) -> None:
        for entry, outcomes in (("self_checks", self_checks()), ("tuned_tiles", tuned_tiles())):
            if len(outcomes) != self._num_written[entry]:
                self._folder.add_to_environment(entry, outcomes)
                self._num_written[entry] = len(outcomes)
