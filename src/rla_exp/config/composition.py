"""From overrides to a checked configuration.

Hydra composes the files; values are set, typed and checked here, so that one error names every problem.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from rla_exp.config.catalog import MAIN, Catalog, read_catalog
from rla_exp.config.effects import idle
from rla_exp.config.keys import key_name
from rla_exp.config.limits import ablation_fits, contradictions
from rla_exp.config.locate import conf_dir
from rla_exp.config.overrides import Request, Setting, read_request
from rla_exp.config.schema import RunConfig
from rla_exp.config.typed import Problem, to_plain, to_typed
from rla_exp.config.wording import closest, did_you_mean
from rla_exp.errors import ConfigError


@dataclass(frozen=True)
class Composed:
    """The configuration of one run."""

    config: RunConfig
    resolved: dict[str, Any]
    """The same as plain values, every default filled in: what config.yaml holds and the identity covers."""
    overrides: list[str]
    """What was typed."""


def compose(overrides: Sequence[str], *, conf: Path | None = None) -> Composed:
    """The configuration of one run.

    Args:
        overrides: as on the command line: `model=rdn`, `optim.lr=1e-3`.
        conf: another folder of YAML groups.

    Raises:
        ConfigError: with every unknown name, wrong type, wrong range, contradiction and setting without effect.
    """
    return _compose(overrides, conf or conf_dir(), sweep=False)[0]


def compose_sweep(overrides: Sequence[str], *, conf: Path | None = None) -> list[Composed]:
    """The configurations of all runs of a sweep (`model=rla,rdn seed=range(3)`), the last one typed varying fastest.

    Raises:
        ConfigError: with every problem of every run.
    """
    return _compose(overrides, conf or conf_dir(), sweep=True)


def _compose(overrides: Sequence[str], conf: Path, *, sweep: bool) -> list[Composed]:
    catalog = read_catalog(conf)
    request = read_request(overrides, catalog, sweep=sweep)
    problems = list(request.problems)
    runs: list[Composed] = []
    for settings in request.runs():
        composed, found = _compose_run(settings, request, catalog)
        problems.extend(found)
        if composed is not None:
            runs.append(composed)
    if problems:
        raise ConfigError(list(dict.fromkeys(problems)))
    return runs


def _compose_run(settings: Sequence[Setting], request: Request, catalog: Catalog) -> tuple[Composed | None, list[str]]:
    choices = tuple(setting.text for setting in settings if setting.is_group and setting.value is not None)
    values = [setting for setting in settings if not setting.is_group]
    try:
        base = _load(catalog.folder, choices)
        plain, problems = _set(base, values)
        config, mistyped = to_typed(plain)
        unreadable = {*request.unreadable, *(problem.keys[0] for problem in [*problems, *mistyped])}
        if config is None:
            # checked as if the unreadable values had not been typed, so that further problems are found too
            plain, _ = _set(base, [value for value in values if not _is_or_holds(value.name, unreadable)])
            config, _ = to_typed(plain)
    except _FilesError as error:
        return None, [str(error)]
    problems += [problem for problem in mistyped if not any(_hidden(key, unreadable) for key in problem.keys[1:])]
    if config is None:
        return None, [problem.message for problem in problems]
    explicit = {key_name(value.name) for value in values}
    fixed = catalog.ablation_settings(config.ablation)
    if not ablation_fits(config):
        # one message says so; what the ablation sets would follow in many
        unreadable |= {f"model.{key}" for key in fixed} - explicit
    for problem in [*idle(config, explicit), *contradictions(config, fixed)]:
        if not any(_hidden(key, unreadable) for key in problem.keys):
            problems.append(problem)
    composed = Composed(config, to_plain(config), [setting.text for setting in settings])
    return composed, [problem.message for problem in problems]


class _FilesError(Exception):
    """The files of conf/ do not fit together."""


@lru_cache(maxsize=256)
def _load(conf: Path, choices: tuple[str, ...]) -> DictConfig:
    """The files of conf/ merged under these choices of options."""
    try:
        with initialize_config_dir(config_dir=str(conf), version_base="1.3"):
            loaded = hydra_compose(MAIN, overrides=list(choices))
    except MissingConfigException as error:
        options = [f"{error.missing_cfg_file}".rsplit("/", 1)[0] + f"/{name}" for name in error.options or ()]
        meant = did_you_mean(closest(str(error.missing_cfg_file), options))
        raise _FilesError(f"conf/ names {error.missing_cfg_file}, which does not exist{meant}") from None
    except (HydraException, OmegaConfBaseException, YAMLError) as error:
        cause = error.__cause__ or error
        raise _FilesError(f"conf/ cannot be composed with {' '.join(choices)}: {_one_line(cause)}") from None
    with open_dict(loaded):
        OmegaConf.set_struct(loaded, False)
    return loaded


def _set(base: DictConfig, values: Sequence[Setting]) -> tuple[dict[str, Any], list[Problem]]:
    """The merged files with these values in place, and the values that found no place."""
    changed = copy.deepcopy(base)
    problems: list[Problem] = []
    for setting in values:
        before = copy.deepcopy(changed)
        try:
            OmegaConf.update(changed, setting.name, setting.value, merge=True, force_add=True)
            OmegaConf.select(changed, setting.name)
        except IndexError:
            problems.append(Problem((setting.name,), f"{setting.text}: the list ends earlier; entries count from 0"))
            changed = before
        except OmegaConfBaseException as error:
            problems.append(Problem((setting.name,), f"{setting.text}: {_one_line(error)}"))
            changed = before
    try:
        plain = OmegaConf.to_container(changed, resolve=True)
    except OmegaConfBaseException as error:
        raise _FilesError(f"{error.full_key}: {_one_line(error)}") from None
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}, problems


def _is_or_holds(name: str, keys: Collection[str]) -> bool:
    return any(key == name or key.startswith(f"{name}.") for key in keys)


def _hidden(key: str, unreadable: Collection[str]) -> bool:
    """Whether a key's value is unknown, because it or a group that sets it could not be read."""
    section = key.split(".")[0]
    groups = ("model", "size", "ablation") if section == "model" else (section,)
    return not {*groups, "experiment", "debug"}.isdisjoint(unreadable) or _is_or_holds(key, unreadable)


def _one_line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0]
