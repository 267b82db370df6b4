"""From overrides to jobs: which folder each leads to, on what device, with how many threads."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

from rla_exp.config import Composed, compose
from rla_exp.config.schema import MqarConfig, TextConfig
from rla_exp.errors import ConfigError
from rla_exp.sweep.job import Job
from rla_exp.sweep.worker import train

PLAIN_SEED = re.compile(r"seed=\d+")


def compose_runs(runs: Sequence[Sequence[str]]) -> list[Composed]:
    """The configurations of many runs, in their order; those that differ in the seed alone are composed once.

    Raises:
        ConfigError: with every problem of every run, each once.
    """
    composed: list[Composed] = []
    problems: dict[str, None] = {}
    by_settings: dict[tuple[str, ...], Composed] = {}
    for overrides in runs:
        seeds = [override for override in overrides if PLAIN_SEED.fullmatch(override)]
        settings = tuple(override for override in overrides if override not in seeds)
        try:
            if len(seeds) != 1:
                composed.append(compose(overrides))
                continue
            if settings not in by_settings:
                by_settings[settings] = compose(settings)
        except ConfigError as error:
            problems |= dict.fromkeys(error.problems)
        else:
            composed.append(_with_seed(by_settings[settings], overrides, int(seeds[0].partition("=")[2])))
    if problems:
        raise ConfigError(list(problems))
    return composed


def _with_seed(run: Composed, overrides: Sequence[str], seed: int) -> Composed:
    return Composed(replace(run.config, seed=seed), {**run.resolved, "seed": seed}, list(overrides))


def plan_jobs(
    runs: Sequence[Composed], labels: Sequence[str] | None = None, *, has_gpu: bool | None = None
) -> list[Job]:
    """The jobs of composed runs, in their order.

    Args:
        labels: what a display calls them (default: the end of their folders).
        has_gpu: whether the machines that will train have a GPU; None: they are this machine.

    Raises:
        ConfigError: a run wants several devices, or a device that is not there.
        DataError: a corpus cannot be read.
    """
    # imported here, for it needs torch, which takes seconds
    from rla_exp.data import CorpusFingerprint, corpus_fingerprint
    from rla_exp.lit.place import find_place

    corpora: dict[str, CorpusFingerprint | None] = {}

    def remembered(data: MqarConfig | TextConfig, cache: Path) -> CorpusFingerprint | None:
        # a sweep has few corpora, and identifying one reads it
        key = repr((data, cache))
        if key not in corpora:
            corpora[key] = corpus_fingerprint(data, cache)
        return corpora[key]

    jobs = []
    for run, label in zip(runs, labels or [""] * len(runs), strict=True):
        place = find_place(run, remembered, device=None if has_gpu is None else _device_there(run, has_gpu))
        jobs.append(
            Job(
                overrides=tuple(run.overrides),
                folder=place.folder.path,
                work=partial(train, run),
                device_type=place.device,
                threads=run.config.trainer.threads,
                retry_failed=run.config.retry_failed,
                resolved=run.resolved,
                label=label,
            )
        )
    return jobs


def _device_there(run: Composed, has_gpu: bool) -> Literal["cpu", "cuda"]:
    """What a run will train on, on other machines than this one."""
    trainer = run.config.trainer
    if trainer.accelerator == "gpu" and not has_gpu:
        raise ConfigError(["trainer.accelerator=gpu: hydra.launcher.gpu=false gives the jobs none"])
    if trainer.devices != 1:
        raise ConfigError([f"trainer.devices={trainer.devices}: a job of a sweep has one device"])
    return "cuda" if has_gpu and trainer.accelerator != "cpu" else "cpu"
