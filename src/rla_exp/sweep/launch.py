"""Where the jobs of a sweep go: this machine or a cluster, as the settings of conf/launcher/ say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from rla_exp.errors import ConfigError
from rla_exp.runs.files import expand_home
from rla_exp.sweep.cluster import ClusterSettings, ClusterWorkers
from rla_exp.sweep.processes import ProcessWorkers
from rla_exp.sweep.workers import StartWorkers


@dataclass(frozen=True, kw_only=True)
class Launch:
    """How jobs are run."""

    num_workers: int | None = None
    """Jobs at a time; None: as many as the cores, or the GPUs, hold."""
    has_gpu: bool | None = None
    """Whether the machines that train have a GPU; None: they are this machine."""
    start_workers: StartWorkers = ProcessWorkers


def on_this_machine(settings: Mapping[str, Any]) -> Launch:
    """The settings of `launcher=local`.

    Raises:
        ConfigError: a number of jobs below 1.
    """
    jobs = settings["jobs"]
    if jobs is not None and jobs < 1:
        raise ConfigError([f"hydra.launcher.jobs={jobs}: must be 1 or more, or null for as many as fit"])
    return Launch(num_workers=jobs)


def on_cluster(settings: Mapping[str, Any]) -> Launch:
    """The settings of `launcher=slurm`; conf/launcher/slurm.yaml says what they mean.

    Raises:
        ConfigError: with every setting that cannot be.
    """
    others = dict(settings)
    jobs, has_gpu, folder = others.pop("jobs"), others.pop("gpu"), others.pop("folder")
    problems = [
        f"hydra.launcher.{key}={value}: must be 1 or more"
        for key, value in {"jobs": jobs, "timeout_min": others["timeout_min"]}.items()
        if value is None or value < 1
    ]
    if others["cluster"] not in ("slurm", "local"):
        problems.append(f"hydra.launcher.cluster={others['cluster']}: must be slurm or local")
    if problems:
        raise ConfigError(problems)
    others |= {"setup": tuple(others["setup"]), "sbatch": dict(others["sbatch"])}
    cluster = ClusterSettings(**others, folder=expand_home(folder))
    return Launch(num_workers=jobs, has_gpu=has_gpu, start_workers=partial(ClusterWorkers, settings=cluster))
