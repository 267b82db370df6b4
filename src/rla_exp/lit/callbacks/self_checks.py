"""The self-checks of the fused kernels that a run relies on, in its environment.json."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from rla_exp.kernels import self_checks
from rla_exp.lit.scored import ScoredBatch
from rla_exp.runs import RunFolder


class SelfChecks(Callback):
    """Writes them after the first batch that needed them: kernels are checked when they are first used."""

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self._num_written = 0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: ScoredBatch, batch_idx: int
    ) -> None:
        self._write()

    def on_validation_batch_end(self, *_: Any, **__: Any) -> None:
        self._write()

    def on_test_batch_end(self, *_: Any, **__: Any) -> None:
        self._write()

    def _write(self) -> None:
        checks = self_checks()
        if len(checks) != self._num_written:
            self._folder.add_to_environment("self_checks", checks)
            self._num_written = len(checks)
