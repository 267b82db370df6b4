"""How far training is: a bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

from lightning.pytorch import Callback, LightningModule, Trainer

from rla_exp.lit.module import LanguageModule
from rla_exp.lit.scored import ScoredBatch
from rla_exp.lit.timing import Timing

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

SECONDS_BETWEEN_REFRESHES = 0.25
SECONDS_BETWEEN_LINES = 30.0


class Progress(Callback):
    """Step, loss, tokens/s and time left, on stderr."""

    def __init__(self, name: str, timing: Timing) -> None:
        self._name = name
        self._timing = timing
        self._bar: Bar | None = None
        self._shown = 0.0
        self._started = 0.0
        self._first_step = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._shown = self._started = time.monotonic()
        self._first_step = trainer.global_step
        if sys.stderr.isatty():
            self._bar = make_bar()
            self._bar.start()
            self._bar.add_task(
                self._name, total=trainer.max_steps, completed=trainer.global_step, loss="", speed="", left=""
            )

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: ScoredBatch, batch_idx: int
    ) -> None:
        now = time.monotonic()
        step = trainer.global_step
        pause = SECONDS_BETWEEN_LINES if self._bar is None else SECONDS_BETWEEN_REFRESHES
        if now - self._shown < pause and step != trainer.max_steps:
            return
        self._shown = now
        assert isinstance(pl_module, LanguageModule)
        loss = f"loss {pl_module.loss:.4f}"
        speed = f"{self._timing.recent_tokens_per_s:,.0f} tokens/s"
        # from this session's wall time, so that validation and checkpoints count
        per_step = (now - self._started) / max(1, step - self._first_step)
        left = f"{format_seconds(per_step * (trainer.max_steps - step))} left"
        if self._bar is None:
            sys.stderr.write(f"{self._name}  step {step}/{trainer.max_steps}  {loss}  {speed}  {left}\n")
        else:
            self._bar.update(self._bar.task_ids[0], completed=step, loss=loss, speed=speed, left=left)
            self._bar.refresh()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def make_bar() -> Bar:
    """A bar that is drawn only when asked to: a drawing thread would compete with training."""
    # imported here: only a terminal needs it
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Bar

    return Bar(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:.0f}/{task.total:.0f}"),
        TextColumn("{task.fields[loss]}  {task.fields[speed]}  {task.fields[left]}"),
        console=Console(stderr=True),
        auto_refresh=False,
    )


def format_seconds(seconds: float) -> str:
    """3725 as 1:02:05, 65 as 1:05."""
    minutes, second = divmod(round(seconds), 60)
    hour, minute = divmod(minutes, 60)
    return f"{hour}:{minute:02d}:{second:02d}" if hour else f"{minute}:{second:02d}"
