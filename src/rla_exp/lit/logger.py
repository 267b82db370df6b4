"""Where metrics go: metrics.jsonl always, W&B beside it where the configuration says so."""

from __future__ import annotations

import netrc
import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from lightning.pytorch.loggers import WandbLogger

from rla_exp.config.schema import RunConfig
from rla_exp.runs import RunFolder, run_name
from rla_exp.runs.files import read_json, write_json

WANDB_FILE = "wandb.json"


class Recorder:
    """Collects what is measured in a step and writes it as one line when the step ends."""

    def __init__(self, folder: RunFolder, wandb_logger: WandbLogger | None) -> None:
        self._folder = folder
        self._wandb_logger = wandb_logger
        self._pending: dict[str, float] = {}

    def add(self, metrics: Mapping[str, float]) -> None:
        """Add to the current step's line."""
        self._pending.update(metrics)

    def flush(self, step: int) -> None:
        """Write the line of optimizer step `step` (from 1), if anything was measured."""
        if not self._pending:
            return
        self._folder.append_metrics(step, self._pending)
        if self._wandb_logger is not None:
            self._wandb_logger.log_metrics(self._pending, step=step)
        self._pending = {}


def make_wandb_logger(config: RunConfig, folder: RunFolder, resolved: Mapping[str, Any]) -> WandbLogger | None:
    """W&B's logger for a run, if logger.kind is wandb.

    Without credentials it writes offline files into the run's folder, for `wandb sync`. The W&B run's id is kept in
    the folder from the start, so that a resumed run goes on in the same W&B run. The experiment is the group.
    """
    if config.logger.kind != "wandb":
        return None
    # imported here: only this logger needs it
    import wandb

    offline = not has_credentials()
    return WandbLogger(
        name=f"{run_name(config)}-seed{config.seed}",
        save_dir=folder.path,
        id=_run_id(folder),
        project=config.logger.project,
        entity=config.logger.entity,
        offline=offline,
        resume="allow",
        group=config.experiment,
        tags=[config.experiment, config.model.name, config.ablation, config.data.name, *config.logger.tags],
        config=dict(resolved),
        settings=wandb.Settings(silent=True, console="off"),
    )


def has_credentials() -> bool:
    """Whether W&B can be reached with a key: WANDB_API_KEY, or the entry that `wandb login` writes to ~/.netrc.

    WANDB_MODE=offline says that it should not be.
    """
    if os.environ.get("WANDB_MODE", "online") != "online":
        return False
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlsplit(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    try:
        return netrc.netrc(os.environ.get("NETRC") or Path.home() / ".netrc").authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def _run_id(folder: RunFolder) -> str:
    file = folder.path / WANDB_FILE
    stored = read_json(file)
    if stored is None:
        stored = {"id": uuid.uuid4().hex[:12]}
        write_json(file, stored)
    return str(stored["id"])
