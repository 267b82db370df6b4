"""`hydra/launcher=processes` and `=slurm`: the jobs of a `--multirun` through `rla_exp.sweep`.

It trains runs of rla_exp whatever the application's task function is: a worker composes its run from the overrides.
Hydra imports this module in every Hydra application of the environment, so that everything heavy is imported late.
"""

# no `from __future__ import annotations`: hydra's scanner runs this module before it is in sys.modules, where
# dataclasses look up annotations that are text
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn, JobStatus, filter_overrides, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

if TYPE_CHECKING:
    from rla_exp.sweep import JobOutcome
    from rla_exp.sweep.launch import Launch


@dataclass
class ProcessLauncherConf:
    """The launcher's settings, `hydra.launcher.*`."""

    _target_: str = "hydra_plugins.rla_launcher.launcher.ProcessLauncher"
    jobs: int | None = None
    """Jobs at a time; null: as many as the cores, or the GPUs, hold."""


@dataclass
class SlurmLauncherConf:
    """The settings of `launcher=slurm`, `hydra.launcher.*`; conf/launcher/slurm.yaml says what they mean."""

    _target_: str = "hydra_plugins.rla_launcher.launcher.SlurmLauncher"
    jobs: int = 64
    gpu: bool = True
    cluster: str = "slurm"
    folder: str = "${paths.runs}/.submitit"
    timeout_min: int = 240
    max_requeues: int = 20
    signal_delay_s: int = 120
    mem_gb: float | None = 16.0
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    setup: list[str] = field(default_factory=list)
    sbatch: dict[str, Any] = field(default_factory=dict)


for name, node in (("processes", ProcessLauncherConf), ("slurm", SlurmLauncherConf)):
    ConfigStore.instance().store(group="hydra/launcher", name=name, node=node, provider="rla_exp")


class ProcessLauncher(Launcher):
    """Runs jobs at the same time, each in a process of its own; finished runs are skipped."""

    def __init__(self, **settings: Any) -> None:
        self.settings = settings

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep what Hydra gives before `launch`."""
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run a batch of jobs to its end, under one display, with one summary.

        Raises:
            ConfigError: the settings have problems; nothing was started.
            InterruptedRun: the sweep was asked to stop.
            UserError: runs failed; the summary has named them.
        """
        outcomes = self.run(job_overrides)
        # hydra would name one of the failed jobs, in words of its own
        _raise_unless_finished(outcomes)
        return [
            self._job_return(overrides, initial_job_idx + index, outcome)
            for index, (overrides, outcome) in enumerate(zip(job_overrides, outcomes, strict=True))
        ]

    def run(self, job_overrides: Sequence[Sequence[str]]) -> "Sequence[JobOutcome]":
        """Run a batch of jobs to its end and tell how each of them ended.

        Raises:
            ConfigError: the settings have problems; nothing was started.
        """
        from rla_exp.sweep.plan import compose_runs, plan_jobs
        from rla_exp.sweep.run import run_sweep

        setup_globals()
        launch = self._launch()
        runs = compose_runs([filter_overrides(overrides) for overrides in job_overrides])
        jobs = plan_jobs(runs, has_gpu=launch.has_gpu)
        return run_sweep(jobs, num_workers=launch.num_workers, start_workers=launch.start_workers)

    def _launch(self) -> "Launch":
        from rla_exp.sweep.launch import on_this_machine

        return on_this_machine(self.settings)

    def _job_return(self, overrides: Sequence[str], number: int, outcome: "JobOutcome") -> JobReturn:
        from rla_exp.runs import read_result

        config = self.hydra_context.config_loader.load_sweep_config(self.config, list(overrides))
        with open_dict(config):
            config.hydra.job.id = str(number)
            config.hydra.job.num = number
            hydra_cfg = OmegaConf.masked_copy(config, "hydra")
            del config["hydra"]
        result = JobReturn(
            overrides=list(overrides), cfg=config, hydra_cfg=hydra_cfg, working_dir=str(Path.cwd()), task_name="train"
        )
        result.status = JobStatus.COMPLETED
        result.return_value = read_result(outcome.job.folder)
        return result


class SlurmLauncher(ProcessLauncher):
    """The same on a cluster: each run is a job of its own, and this process submits, watches and sums up."""

    def _launch(self) -> "Launch":
        from rla_exp.sweep.launch import on_cluster

        return on_cluster(self.settings)


def _raise_unless_finished(outcomes: Sequence["JobOutcome"]) -> None:
    from rla_exp.errors import InterruptedRun, UserError

    if any(outcome.state == "interrupted" for outcome in outcomes):
        raise InterruptedRun("the sweep was interrupted; the same command goes on")
    failed = {outcome.job.folder for outcome in outcomes if outcome.state == "failed"}
    if failed:
        raise UserError(f"{len(failed)} runs failed; they are listed above")
