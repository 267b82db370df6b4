"""Where metrics go: metrics.jsonl always, W&B beside it where the configuration says so."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rla_exp.config.schema import RunConfig
from rla_exp.runs import RunFolder, run_name
from rla_exp.runs.wandb_mirror import has_credentials, offline_folders, wandb_group, wandb_id

if TYPE_CHECKING:
    import wandb

STEP = "step"
# what W&B's summary keeps of a curve, by a part of its name: the best value and the last
DIRECTIONS = {"accuracy": "max", "loss": "min", "perplexity": "min", "bits_per_byte": "min"}


class Recorder:
    """Collects what is measured in a step and writes it as one line when the step ends."""

    def __init__(self, folder: RunFolder, mirror: Mirror | None) -> None:
        self._folder = folder
        self._mirror = mirror
        self._pending: dict[str, float] = {}

    def add(self, metrics: Mapping[str, float]) -> None:
        """Add to the current step's line."""
        self._pending.update(metrics)

    def flush(self, step: int) -> None:
        """Write the line of optimizer step `step` (from 1), if anything was measured."""
        if not self._pending:
            return
        self._folder.append_metrics(step, self._pending)
        if self._mirror is not None:
            self._mirror.log(step, self._pending)
        self._pending = {}


class Mirror:
    """A run at W&B, or its offline files."""

    def __init__(self, run: wandb.Run) -> None:
        self._run = run
        self._defined: set[str] = set()
        run.define_metric(STEP, hidden=True)

    def log(self, step: int, metrics: Mapping[str, float | None]) -> None:
        """One line of metrics.jsonl; W&B's own step is the optimizer's, and a step that W&B has already is left out."""
        for name in metrics.keys() - self._defined:
            self._run.define_metric(name, step_metric=STEP, summary=summary_of(name))
            self._defined.add(name)
        known = {name: value for name, value in metrics.items() if value is not None}
        self._run.log({STEP: step, **known}, step=step)

    def summarize(self, metrics: Mapping[str, float]) -> None:
        """The numbers of result.json; those that a curve ends with are in the summary already."""
        self._run.summary.update({name: value for name, value in metrics.items() if name not in self._defined})


def summary_of(metric: str) -> str:
    """What W&B's summary keeps of a curve."""
    direction = next((direction for part, direction in DIRECTIONS.items() if part in metric), None)
    return "last" if direction is None else f"{direction},last"


@contextmanager
def wandb_mirror(config: RunConfig, folder: RunFolder, resolved: Mapping[str, Any]) -> Iterator[Mirror | None]:
    """A run at W&B while the body runs, marked as failed when it raises; None unless logger.kind is wandb.

    Without credentials offline files are written into the run's folder, for `wandb sync`. The seeds of a configuration
    are a group. A resumed run goes on in the same W&B run: online W&B has the lines before; offline the new files begin
    with all of them and the old files are removed, for W&B takes each folder as the whole run.
    """
    if config.logger.kind != "wandb":
        yield None
        return
    # imported here: only this logger needs it
    import wandb

    offline = not has_credentials()
    before = offline_folders(folder.path)
    run = wandb.init(**describe_run(config, folder, resolved, offline=offline))
    mirror = Mirror(run)
    if offline:
        for row in folder.read_metrics():
            mirror.log(row["step"], {name: value for name, value in row.items() if name != STEP})
        for stale in before:
            shutil.rmtree(stale, ignore_errors=True)
    code = 1
    try:
        yield mirror
        code = 0
    finally:
        run.finish(exit_code=code)
        # finish returns before the offline file is written: a process that ends now would lose all of it
        wandb.teardown()


def describe_run(config: RunConfig, folder: RunFolder, resolved: Mapping[str, Any], *, offline: bool) -> dict[str, Any]:
    """The arguments of wandb.init."""
    import wandb

    return {
        "mode": "offline" if offline else "online",
        "id": wandb_id(folder.path),
        # W&B warns of it where there is nothing to go on with
        "resume": None if offline else "allow",
        "name": f"{run_name(config)}-seed{config.seed}",
        "group": wandb_group(config.experiment, folder.path),
        "job_type": "train",
        "tags": [config.experiment, config.model.name, config.ablation, config.data.name, *config.logger.tags],
        "project": config.logger.project,
        "entity": config.logger.entity,
        # a folder of the run's own: files of runs side by side cannot be taken for each other
        "dir": folder.path,
        "config": dict(resolved),
        "settings": wandb.Settings(silent=True, console="off"),
    }
