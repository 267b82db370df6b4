"""From overrides to jobs: which folder each leads to, on what device, with how many threads."""

from __future__ import annotations

import json
from collections.abc import Sequence

from rla_exp.config import Composed, compose, identity
from rla_exp.errors import ConfigError
from rla_exp.runs import RunFolder, cache_dir
from rla_exp.sweep.job import Job


def compose_runs(runs: Sequence[Sequence[str]]) -> list[Composed]:
    """The configurations of many runs, in their order.

    Raises:
        ConfigError: with every problem of every run, each once.
    """
    composed: list[Composed] = []
    problems: dict[str, None] = {}
    for overrides in runs:
        try:
            composed.append(compose(overrides))
        except ConfigError as error:
            problems |= dict.fromkeys(error.problems)
    if problems:
        raise ConfigError(list(problems))
    return composed


def plan_jobs(runs: Sequence[Composed], labels: Sequence[str] | None = None) -> list[Job]:
    """The jobs of composed runs, in their order.

    Args:
        labels: what a display calls them (default: the end of their folders).

    Raises:
        ConfigError: a run wants several devices, or a device that is not there.
        DataError: a corpus cannot be read.
    """
    # imported here, for they need torch, which takes seconds
    from rla_exp.data import corpus_fingerprint
    from rla_exp.lit.device import choose_device

    # a sweep has few corpora, and identifying one reads it
    corpora: dict[str, str | None] = {}
    jobs = []
    for run, label in zip(runs, labels or [""] * len(runs), strict=True):
        config = run.config
        corpus = json.dumps([run.resolved["data"], run.resolved["paths"]])
        if corpus not in corpora:
            fingerprint = corpus_fingerprint(config.data, cache_dir(config.paths))
            corpora[corpus] = None if fingerprint is None else fingerprint.sha256
        device_type = choose_device(config.trainer)
        threads = config.trainer.threads
        full = identity(run.resolved, corpus_sha256=corpora[corpus], device_type=device_type, threads=threads)
        jobs.append(
            Job(
                overrides=tuple(run.overrides),
                folder=RunFolder.of(config, full).path,
                device_type=device_type,
                threads=threads,
                retry_failed=config.retry_failed,
                label=label,
            )
        )
    return jobs
