"""Reading what was typed: `model=rdn`, `optim.lr=1e-3,3e-3`, every name checked before Hydra sees it.

Hydra stops at the first wrong name; here all of them are found, each with the spelling that was probably meant.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override, OverrideType
from hydra.errors import HydraException

from rla_exp.config.catalog import Catalog
from rla_exp.config.keys import GROUP_NAMES, key_name, schema_keys, sections
from rla_exp.config.wording import closest, did_you_mean, listed, show


@dataclass(frozen=True)
class Setting:
    """One setting of one run: a group's option, or a key's value."""

    name: str
    value: Any
    is_group: bool
    text: str
    """As it would be typed alone."""


@dataclass(frozen=True)
class Request:
    """All settings that were typed. Each stands as its alternatives: one, or those of a sweep."""

    settings: tuple[tuple[Setting, ...], ...]
    problems: tuple[str, ...]
    unreadable: frozenset[str]
    """Names of groups and keys whose settings were wrong."""

    def runs(self) -> list[tuple[Setting, ...]]:
        """The settings of every run: the product of all sweeps, the last one typed varying fastest."""
        return list(product(*self.settings))


def read_request(overrides: Sequence[str], catalog: Catalog, *, sweep: bool) -> Request:
    """Parse overrides and check every name. Without `sweep` several values of one name are a problem."""
    settings: list[tuple[Setting, ...]] = []
    problems: list[str] = []
    unreadable: set[str] = set()
    seen: dict[str, str] = {}
    for text in overrides:
        try:
            override = _parse(text, catalog)
            name = override.key_or_group
            if name in seen:
                raise _SettingError(name, f"{text}: {name} is already set by {seen[name]}; leave one of them out")
            seen[name] = text
            settings.append(_alternatives(override, text, catalog, sweep=sweep))
        except _SettingError as wrong:
            problems.append(wrong.message)
            unreadable.add(wrong.name)
    return Request(tuple(settings), tuple(problems), frozenset(unreadable))


def for_hydra(override: str) -> str:
    """An override as Hydra takes it: forced where it names a key, for YAML files leave out what has a default."""
    name = override.split("=", 1)[0].lstrip("+")
    return f"++{override.lstrip('+')}" if key_name(name) in _settable() else override.lstrip("+")


class _SettingError(Exception):
    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name, self.message = name, message


def _parse(text: str, catalog: Catalog) -> Override:
    if "=" not in text and not text.startswith("~"):
        raise _SettingError(text, f"{text}: settings are written KEY=VALUE{did_you_mean(_spelled_out(text, catalog))}")
    name = text.split("=", 1)[0].lstrip("+~")
    if "[" in name:
        raise _SettingError(name, f"{text}: entries of a list are written with dots: {_dotted(name)}=VALUE")
    try:
        override = OverridesParser.create().parse_override(text)
    except HydraException:
        raise _SettingError(
            name, f"{text}: the value cannot be read; quote what has spaces or any of ,[]{{}}()'\": {_quoted(text)}"
        ) from None
    if override.type is OverrideType.DEL:
        raise _SettingError(name, f"{text}: settings cannot be deleted; write {name}=null where nothing is meant")
    if override.package is not None:
        raise _SettingError(name, f"{text}: a group's place is fixed; write {override.key_or_group}=OPTION")
    return override


def _alternatives(override: Override, text: str, catalog: Catalog, *, sweep: bool) -> tuple[Setting, ...]:
    name = override.key_or_group
    is_group = _check_name(override, text, catalog)
    values = _values(override, text, catalog)
    if override.is_sweep_override() and not sweep:
        raise _SettingError(
            name,
            f"{text}: several values are a sweep, which needs --multirun; a list is written {name}=[A,B], "
            f"text with commas {name}='\"A,B\"'",
        )
    if is_group:
        for value in values.values():
            _check_option(name, value, catalog)
    return tuple(Setting(name, value, is_group, f"{name}={typed}") for typed, value in values.items())


def _check_name(override: Override, text: str, catalog: Catalog) -> bool:
    """Whether the override chooses an option of a group (or sets a key)."""
    name = override.key_or_group
    if name in catalog.options:
        return True
    if key_name(name) in _settable():
        return False
    value = override.get_value_string()
    if name in GROUP_NAMES:
        raise _SettingError(name, f"{text}: set by the files of {GROUP_NAMES[name]}/; write {GROUP_NAMES[name]}=OPTION")
    if name in catalog.elsewhere:
        raise _SettingError(name, f"{text}: {name}/ is no part of a training run")
    if name.startswith(("hydra.", "hydra/")):
        raise _SettingError(name, f"{text}: Hydra's own settings serve --multirun only")
    if name in sections():
        inside = [key for key in _settable() if key.startswith(f"{name}.")]
        raise _SettingError(name, f"{text}: {name} holds the keys {listed(inside, 'and')}; set those")
    guess = closest(name, [*catalog.options, *_settable()])
    if owners := catalog.owners(value):
        guess = f"{owners[0]}={value}"
    raise _SettingError(name, f"{text}: there is no setting {name}{did_you_mean(guess)}")


def _check_option(group: str, value: Any, catalog: Catalog) -> None:
    options = catalog.options[group]
    if value is None and catalog.defaults[group] is None:
        return
    if show(value) in options:
        return
    guess = closest(show(value), options)
    owners = catalog.owners(show(value))
    meant = guess or (f"{owners[0]}={value}" if owners else None)
    raise _SettingError(
        group, f"{group}={show(value)}: no such option; allowed: {', '.join(options)}{did_you_mean(meant)}"
    )


def _values(override: Override, text: str, catalog: Catalog) -> dict[str, Any]:
    """Each value by how it is typed."""
    name = override.key_or_group
    value = override.value()
    if not override.is_sweep_override():
        return {override.get_value_string(): value}
    if override.is_interval_sweep():
        raise _SettingError(
            name, f"{text}: an interval has no end of values; write range(START,STOP,STEP) or a list A,B,C"
        )
    if isinstance(value, Glob):
        values: dict[str, Any] = {option: option for option in value.filter(list(catalog.options.get(name, ())))}
    else:
        try:
            parse = OverridesParser.create().parse_override
            values = {typed: parse(f"{name}={typed}").value() for typed in override.sweep_string_iterator()}
        except (HydraException, ValueError) as error:
            raise _SettingError(name, f"{text}: {error}") from None
    if not values:
        raise _SettingError(name, f"{text}: there is no value in this sweep")
    return values


def _spelled_out(word: str, catalog: Catalog) -> str | None:
    """What a bare word was probably meant to be: `rdn` for `model=rdn`."""
    if word in catalog.options:
        return f"{word}=OPTION with one of {', '.join(catalog.options[word])}"
    if word in _settable():
        return f"{word}=VALUE"
    options = {option: group for group, options in catalog.options.items() for option in options}
    option = closest(word, options)
    return f"{options[option]}={option}" if option else None


def _quoted(text: str) -> str:
    name, _, value = text.partition("=")
    return f"{name}='\"{value}\"'"


def _dotted(name: str) -> str:
    return name.replace("[", ".").replace("]", "")


def _settable() -> dict[str, None]:
    return {name: None for name in schema_keys() if name not in GROUP_NAMES and name != "experiment"}


def quoted(text: str) -> str:
    """Text as a value in an override, whatever characters it has."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
