"""Hydra's own settings (`hydra.launcher.jobs=2`), which a --multirun may have beside those of its runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from rla_exp.config import conf_dir
from rla_exp.config.catalog import MAIN
from rla_exp.config.wording import closest, did_you_mean

# sections whose keys are the user's own: options of sbatch
FREE = ("hydra.launcher.sbatch.",)


def is_hydras(override: str) -> bool:
    """Whether an override sets something of Hydra and nothing of a run."""
    return override.lstrip("+~").startswith(("hydra.", "hydra/"))


def hydra_problems(overrides: Sequence[str], choices: Sequence[str] = ()) -> list[str]:
    """What is wrong with settings of Hydra, each in a line of ours.

    Args:
        choices: options of groups that bring settings of Hydra with them, as in "launcher=slurm".
    """
    problems: list[str] = []
    with initialize_config_dir(config_dir=str(conf_dir()), version_base="1.3"):
        settings = compose(MAIN, overrides=list(choices), return_hydra_config=True).hydra
        known = list(_names(OmegaConf.to_container(settings), "hydra"))
        for override in overrides:
            name = override.split("=", 1)[0].lstrip("+~")
            if name == "hydra/launcher":
                problems.append(f"{override}: a launcher comes with its settings; write launcher=OPTION")
                continue
            if "/" not in name and name not in known and not name.startswith(FREE):
                problems.append(f"{override}: there is no setting {name}{did_you_mean(closest(name, known))}")
                continue
            try:
                compose(MAIN, overrides=[*choices, override], return_hydra_config=True)
            except (HydraException, OmegaConfBaseException) as error:
                problems.append(f"{override}: {one_line(error)}")
    return problems


def one_line(error: BaseException) -> str:
    """The first line of what Hydra says, or of what made it say so."""
    return str(error.__cause__ or error).strip().split("\n")[0]


def _names(section: object, prefix: str) -> Iterator[str]:
    if isinstance(section, dict):
        for key, value in section.items():
            yield f"{prefix}.{key!s}"
            yield from _names(value, f"{prefix}.{key!s}")
