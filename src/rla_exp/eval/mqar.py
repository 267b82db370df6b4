"""Recall of a run that was trained on MQAR, on its own test split."""

from __future__ import annotations

import time
from collections import defaultdict

import torch

from rla_exp.config.schema import MqarConfig
from rla_exp.data import IGNORE
from rla_exp.data.mqar import MqarData
from rla_exp.errors import ConfigError
from rla_exp.eval.mean import mean_score
from rla_exp.eval.trained_model import TrainedModel
from rla_exp.runs.evaluations import TaskScores


@torch.no_grad()
def run_mqar(trained: TrainedModel, limit: int | None = None) -> TaskScores:
    """Mean over sequences of the share of queries answered, in all and by number of pairs.

    Args:
        limit: sequences of each number of pairs; None: all.

    Raises:
        ConfigError: the run was trained on text.
    """
    if not isinstance(trained.config.data, MqarConfig):
        raise ConfigError(["eval=mqar: the run was trained on text and knows no MQAR tokens"])
    started = time.perf_counter()
    data = MqarData(trained.config.data, trained.config.seed)
    device = trained.model.embedding.weight.device
    found: dict[int, list[float]] = defaultdict(list)
    for index in range(data.num_eval_batches("test")):
        batch = data.eval_batch("test", index)
        assert batch.groups is not None
        num_pairs = int(batch.groups[0])
        if limit is not None and len(found[num_pairs]) >= limit:
            continue
        predicted = trained.model(batch.tokens.to(device)).argmax(-1).cpu()
        scored = batch.labels != IGNORE
        right = ((predicted == batch.labels) & scored).sum(1) / scored.sum(1)
        found[num_pairs] += right.tolist()
    groups = {pairs: values[:limit] for pairs, values in found.items()}
    everything = [value for values in groups.values() for value in values]
    metrics = {"accuracy": mean_score(everything)}
    metrics.update({f"accuracy@{pairs}": mean_score(values) for pairs, values in sorted(groups.items())})
    seconds = time.perf_counter() - started
    return TaskScores(version=1.0, n=len(everything), metrics=metrics, seconds=seconds, data="generated")
