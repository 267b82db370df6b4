"""What a `--multirun` is made of: what was typed, what its experiment sweeps over, and whether all of it can be."""

from __future__ import annotations

from collections.abc import Sequence

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from rla_exp.cli.hydra_settings import hydra_problems
from rla_exp.config import Composed, compose_sweep, conf_dir
from rla_exp.config.catalog import MAIN, read_catalog
from rla_exp.errors import ConfigError
from rla_exp.sweep.plan import compose_runs

# groups whose files hold settings of Hydra
GROUPS_OF_HYDRA = ("launcher", "sweeper")
SEARCH = "sweeper=optuna"


def stored_sweep(typed: Sequence[str]) -> list[str]:
    """The overrides of `hydra.sweeper.params` in the file of the chosen experiment, without those that were typed."""
    experiment = [override for override in typed if override in _options("experiment")]
    if not experiment:
        return []
    try:
        with initialize_config_dir(config_dir=str(conf_dir()), version_base="1.3"):
            params = hydra_compose(MAIN, overrides=experiment, return_hydra_config=True).hydra.sweeper.params
    except (HydraException, OmegaConfBaseException):
        # told, with everything else that is wrong, when the runs are composed
        return []
    names = {override.partition("=")[0].lstrip("+") for override in typed}
    return [f"{name}={values}" for name, values in (params or {}).items() if name not in names]


def check_sweep(ours: Sequence[str], hydras: Sequence[str]) -> None:
    """Find every problem of every run, and of the sweep itself, before the first run starts.

    Args:
        ours: settings of the runs.
        hydras: settings of Hydra.

    Raises:
        ConfigError: with all problems.
    """
    brought = [option for group in GROUPS_OF_HYDRA for option in _options(group)]
    problems = hydra_problems(hydras, [override for override in ours if override in brought])
    try:
        runs = _compose_corners(ours) if SEARCH in ours else compose_sweep(ours)
        problems += [
            f"trainer.devices={number}: --multirun gives every job one device; "
            "leave it at 1, or train the runs one command at a time"
            for number in sorted({run.config.trainer.devices for run in runs} - {1})
        ]
    except ConfigError as error:
        problems += error.problems
    if problems:
        raise ConfigError(problems)


def _compose_corners(ours: Sequence[str]) -> list[Composed]:
    """Some runs of a search that use every alternative and the ends of every interval."""
    try:
        from rla_exp.sweep.search import SearchSpace

        space = SearchSpace.read(ours)
    except ImportError:
        raise ConfigError([f"{SEARCH}: needs optuna; install it by pip install 'rla_exp[search]'"]) from None
    return compose_runs(list(space.corners()))


def _options(group: str) -> list[str]:
    return [f"{group}={option}" for option in read_catalog(conf_dir()).options.get(group, ())]
