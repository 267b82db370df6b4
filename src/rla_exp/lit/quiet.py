"""Lightning says nothing but what matters: the run has its own log and progress."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

LIGHTNING_LOGGERS = ("lightning.pytorch", "lightning.fabric")

UNWANTED = (
    # trainer.accelerator=cpu on a machine with a GPU is meant
    "GPU available but not used",
    # Lightning 2.6 on PyTorch 2.13
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",
    # a run is one process, in a SLURM job too
    r"The `srun` command is available",
)


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Leave out what Lightning prints about devices, loops and tips, and the warnings that do not apply here."""
    loggers = [logging.getLogger(name) for name in LIGHTNING_LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            for message in UNWANTED:
                warnings.filterwarnings("ignore", message=f".*{message}")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
