"""A suite of conf/eval/ on the model as it is at a step."""

from __future__ import annotations

import copy
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from rla_exp.config.schema import EvaluationConfig, RunConfig
from rla_exp.data.tokenizer import Tokenizer
from rla_exp.eval.evaluate import EvaluationSettings, open_suite
from rla_exp.eval.random_state import random_state_kept
from rla_exp.eval.suite import load_suite
from rla_exp.eval.trained_model import TrainedModel
from rla_exp.lit.logger import Recorder
from rla_exp.lit.module import LanguageModule
from rla_exp.lit.scored import ScoredBatch
from rla_exp.runs.files import expand_home


class Evaluation(Callback):
    """Writes eval/<suite>/<task>/<metric> every `evaluation.every` steps and at the last step.

    The numbers are those of rla-evaluate on a checkpoint of the same step. A copy of the model in float32 is evaluated,
    and the generators are put back, so that training does not depend on it.
    """

    def __init__(self, recorder: Recorder, config: RunConfig, tokenizer: Tokenizer | None) -> None:
        """tokenizer: None where the data are no text."""
        settings: EvaluationConfig = config.evaluation
        assert settings.suite is not None
        self._recorder = recorder
        self._config = config
        self._tokenizer = tokenizer
        self._name = settings.suite
        self._suite = load_suite(settings.suite)
        self._every = settings.every
        self._settings = EvaluationSettings(
            limit=settings.limit, data_dir=None if settings.data_dir is None else expand_home(settings.data_dir)
        )

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Find what is wrong with tasks and local files now, and not after hours of training."""
        assert isinstance(pl_module, LanguageModule)
        with random_state_kept(), open_suite(self._trained(pl_module), self._suite, self._settings):
            pass

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: ScoredBatch, batch_idx: int
    ) -> None:
        if (batch_idx + 1) % trainer.accumulate_grad_batches:
            return
        step = trainer.global_step
        if step == trainer.max_steps or (self._every is not None and step % self._every == 0):
            assert isinstance(pl_module, LanguageModule)
            self._recorder.add(self._evaluate(pl_module))

    def _evaluate(self, module: LanguageModule) -> dict[str, float]:
        values: dict[str, float] = {}
        with random_state_kept(), open_suite(self._trained(module), self._suite, self._settings) as opened:
            for name in opened.tasks:
                for task, scores in opened.run_task(name).items():
                    for metric, score in scores.metrics.items():
                        values[f"eval/{self._name}/{task}/{metric}"] = score.value
        return values

    def _trained(self, module: LanguageModule) -> TrainedModel:
        return TrainedModel(self._config, copy.deepcopy(module.model).float().eval(), self._tokenizer)
