"""Batches by index."""

from __future__ import annotations

from collections.abc import Callable

import torch

from rla_exp.config import Composed
from rla_exp.config.schema import MqarConfig
from rla_exp.data import Batch
from rla_exp.data.mqar import MqarData
from rla_exp.lit.datamodule import RecallDataModule, TrainingBatches, longest_sequence, make_datamodule


def numbered(index: int) -> Batch:
    return Batch(torch.tensor([[index]]), torch.tensor([[index]]), None, None, 0)


def test_training_batches_go_on_at_their_position() -> None:
    batches = TrainingBatches(numbered, 5)
    iterator = iter(batches)
    assert [next(iterator).tokens.item() for _ in range(2)] == [0, 1]
    state = batches.state_dict()
    resumed = TrainingBatches(numbered, 5)
    resumed.load_state_dict(state)
    assert [batch.tokens.item() for batch in resumed] == [2, 3, 4]
    assert len(resumed) == 5


def test_splits(make_run: Callable[..., Composed]) -> None:
    config = make_run(max_steps=3, accumulate=2).config
    assert isinstance(config.data, MqarConfig)
    data = MqarData(config.data, 0)
    module = make_datamodule(config, data)
    assert isinstance(module, RecallDataModule)
    assert len(module.train_dataloader()) == 6
    for split, loader in (("valid", module.val_dataloader()), ("test", module.test_dataloader())):
        first, again = list(loader), list(loader)
        assert len(first) == len(again) == len(loader) == data.num_eval_batches(split)
        for index, batch in enumerate(first):
            assert torch.equal(batch.tokens, data.eval_batch(split, index).tokens)


def test_overfit_batches_repeat(make_run: Callable[..., Composed]) -> None:
    config = make_run(max_steps=5, overfit_batches=2).config
    assert isinstance(config.data, MqarConfig)
    tokens = [batch.tokens for batch in make_datamodule(config, MqarData(config.data, 0)).train_dataloader()]
    assert torch.equal(tokens[0], tokens[2])
    assert torch.equal(tokens[1], tokens[3])
    assert not torch.equal(tokens[0], tokens[1])


def test_longest_sequence_is_the_tests(make_run: Callable[..., Composed]) -> None:
    assert longest_sequence(make_run().config.data) == 16
