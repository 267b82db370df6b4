"""`hydra/sweeper=rla_search`: the trials of `rla_exp.sweep.search`, run by the launcher at hand.

Hydra imports this module in every Hydra application of the environment, so that everything heavy is imported late.
hydra-optuna-sweeper, which does the like, needs optuna below 3.
"""

# no `from __future__ import annotations`: hydra's scanner runs this module before it is in sys.modules, where
# dataclasses look up annotations that are text
from dataclasses import dataclass
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


@dataclass
class SearchSweeperConf:
    """The settings of `sweeper=optuna`, `hydra.sweeper.*`; conf/sweeper/optuna.yaml says what they mean."""

    _target_: str = "hydra_plugins.rla_search.sweeper.SearchSweeper"
    metric: str = "valid/loss"
    direction: str = "minimize"
    trials: int = 20
    batch: int = 1
    sampler: str = "tpe"
    sampler_seed: int = 0
    params: dict[str, str] | None = None
    """What an experiment sweeps over; `rla_exp.cli` puts it among what was typed."""


ConfigStore.instance().store(group="hydra/sweeper", name="rla_search", node=SearchSweeperConf, provider="rla_exp")


class SearchSweeper(Sweeper):
    """Proposes runs one batch after the other, each by the results of those before."""

    def __init__(self, **settings: Any) -> None:
        self.settings = {name: value for name, value in settings.items() if name != "params"}

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep what Hydra gives before `sweep`."""
        self.hydra_context, self.config = hydra_context, config
        self.launcher: Any = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Any:
        """Search to the end and say what was found.

        Raises:
            ConfigError: the settings have problems; nothing was started.
            InterruptedRun: the search was asked to stop.
            UserError: trials failed for other reasons than divergence; their summaries have named them.
        """
        from rla_exp.errors import ConfigError, UserError
        from rla_exp.sweep.search import SearchSettings, SearchSpace, search

        settings = SearchSettings(**self.settings)
        if problems := settings.problems():
            raise ConfigError(problems)
        result = search(SearchSpace.read(arguments), settings, self.launcher.run)
        file = result.write()
        print(result.text(), f"written: {file}", sep="\n")  # noqa: T201 - what the command has to say
        failed = [trial for trial in result.trials if trial.outcome.state == "failed" and not trial.outcome.diverged]
        if failed:
            raise UserError(f"{len(failed)} trials failed; they are listed above")
        return result
