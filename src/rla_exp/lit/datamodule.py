"""Lightning's view of data by index: one DataModule for each kind of data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from lightning.pytorch import LightningDataModule
from torch import Tensor

from rla_exp.config.schema import MqarConfig, RunConfig, TextConfig
from rla_exp.data import Batch, Data, EvalSplit
from rla_exp.data.text import TextData
from rla_exp.lit.scored import ScoredBatch, pick_scored, sequence_accuracies
from rla_exp.lit.totals import Totals, part_metrics, recall_metrics, text_metrics


class IndexedBatches:
    """The batches with index 0 to `length`, in order."""

    def __init__(self, fetch: Callable[[int], Batch], length: int) -> None:
        self._fetch = fetch
        self._length = length

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[ScoredBatch]:
        for index in range(self._length):
            yield pick_scored(self._fetch(index))


class TrainingBatches(IndexedBatches):
    """Batches that can go on where a checkpoint left them; Lightning saves and restores their state.

    The length stays that of the whole training, as Lightning's own counters go on too.
    """

    next_index = 0

    def __iter__(self) -> Iterator[ScoredBatch]:
        while self.next_index < self._length:
            batch = self._fetch(self.next_index)
            self.next_index += 1
            yield pick_scored(batch)

    def state_dict(self) -> dict[str, int]:
        """The data position: the index of the batch after the last one handed out."""
        return {"next_index": self.next_index}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on from a data position."""
        self.next_index = state["next_index"]


class LanguageDataModule(LightningDataModule):
    """Batches of next-token prediction for training, validation and test.

    Args:
        data: where they come from.
        num_batches: training batches in all, optimizer steps times accumulation.
        overfit_batches: of these, only so many differ, over and over; None: all.
    """

    def __init__(self, data: Data, num_batches: int, overfit_batches: int | None = None) -> None:
        super().__init__()
        self.data = data
        self._num_batches = num_batches
        self._overfit_batches = overfit_batches

    def count(self, totals: Totals, batch: ScoredBatch, nats: float, logits: Tensor) -> None:
        """Add a held-out batch: its loss in nats, summed over the scored tokens, and their logits [N, vocab_size]."""
        raise NotImplementedError

    def metrics(self, totals: Totals, split: EvalSplit) -> dict[str, float]:
        """The metrics of a held-out split, for this kind of data."""
        raise NotImplementedError

    def train_dataloader(self) -> TrainingBatches:
        return TrainingBatches(self._training_batch, self._num_batches)

    def val_dataloader(self) -> IndexedBatches:
        return self._held_out("valid")

    def test_dataloader(self) -> IndexedBatches:
        return self._held_out("test")

    def _training_batch(self, index: int) -> Batch:
        return self.data.train_batch(index if self._overfit_batches is None else index % self._overfit_batches)

    def _held_out(self, split: EvalSplit) -> IndexedBatches:
        return IndexedBatches(partial(self.data.eval_batch, split), self.data.num_eval_batches(split))


class RecallDataModule(LanguageDataModule):
    """MQAR: accuracy by number of key-value pairs."""

    def count(self, totals: Totals, batch: ScoredBatch, nats: float, logits: Tensor) -> None:
        assert batch.groups is not None
        totals.add(nats, len(batch.targets), batch.num_bytes)
        totals.add_accuracies(batch.groups, sequence_accuracies(logits, batch))

    def metrics(self, totals: Totals, split: EvalSplit) -> dict[str, float]:
        return recall_metrics(totals)


class TextDataModule(LanguageDataModule):
    """Text: perplexity and bits per byte, of parts of the split too where it has some."""

    def count(self, totals: Totals, batch: ScoredBatch, nats: float, logits: Tensor) -> None:
        own = totals if batch.groups is None else totals.of_part(int(batch.groups[0]))
        own.add(nats, len(batch.targets), batch.num_bytes)

    def metrics(self, totals: Totals, split: EvalSplit) -> dict[str, float]:
        if not totals.parts:
            return text_metrics(totals)
        assert isinstance(self.data, TextData)
        return part_metrics(self.data.parts[split], totals.parts)


def make_datamodule(config: RunConfig, data: Data) -> LanguageDataModule:
    """The DataModule of the configured kind of data."""
    kind = {"mqar": RecallDataModule, "text": TextDataModule}[config.data.kind]
    return kind(data, config.trainer.max_steps * config.trainer.accumulate, config.trainer.overfit_batches)


def longest_sequence(config: MqarConfig | TextConfig) -> int:
    """Tokens of the longest sequence that the test decodes, for which the size of a state is told."""
    return config.seq_len if isinstance(config, TextConfig) else max(segment.length for segment in config.test)
