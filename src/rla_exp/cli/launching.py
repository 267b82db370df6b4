"""The launcher of a command that is not Hydra's own: the same settings of conf/launcher/ as a --multirun has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from omegaconf import OmegaConf

from rla_exp.cli.hydra_settings import hydra_problems
from rla_exp.config import conf_dir
from rla_exp.config.catalog import MAIN, read_catalog
from rla_exp.config.overrides import quoted
from rla_exp.config.wording import closest, did_you_mean
from rla_exp.errors import ConfigError
from rla_exp.sweep.launch import Launch, on_cluster, on_this_machine

LOCAL = "local"


def read_launch(launcher: str, hydras: Sequence[str], *, jobs: int | None, runs: Path) -> Launch:
    """How jobs are run.

    Args:
        launcher: a file of conf/launcher/.
        hydras: settings of it, as in "hydra.launcher.partition=gpu".
        jobs: how many at a time, in place of the launcher's own; None: that.
        runs: the folder of the runs, below which a cluster's jobs leave their files.

    Raises:
        ConfigError: with every wrong setting.
    """
    known = read_catalog(conf_dir()).options["launcher"]
    if launcher not in known:
        guess = did_you_mean(closest(launcher, known))
        raise ConfigError([f"launcher={launcher}: there is no such launcher; allowed: {', '.join(known)}{guess}"])
    choice = f"launcher={launcher}"
    problems = hydra_problems(hydras, [choice])
    if jobs is not None and any(text.startswith("hydra.launcher.jobs=") for text in hydras):
        problems.append(f"jobs={jobs}: hydra.launcher.jobs says it too; leave one of them out")
    if problems:
        raise ConfigError(problems)
    with initialize_config_dir(config_dir=str(conf_dir()), version_base="1.3"):
        words = [choice, *hydras, f"paths.runs={quoted(str(runs))}"]
        composed = hydra_compose(MAIN, overrides=words, return_hydra_config=True)
        settings = OmegaConf.to_container(composed.hydra.launcher, resolve=True)
    assert isinstance(settings, dict)
    read = on_this_machine if launcher == LOCAL else on_cluster
    launch = read({str(key): value for key, value in settings.items() if key != "_target_"})
    return launch if jobs is None else replace(launch, num_workers=jobs)
