"""The flags of `train`: Hydra's names, with an answer to wrong ones."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

from rla_exp.config.wording import closest, did_you_mean
from rla_exp.errors import ConfigError

CFG = ("job", "hydra", "all")
INFO = ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")

# Hydra's ways to another conf/: a run must be composed anew from its overrides alone, in workers and when it resumes
REFUSED = {
    "--config-path": "conf/ is fixed; put files there",
    "--config-name": "conf/config.yaml is fixed; a preset is a file in conf/experiment/",
    "--config-dir": "conf/ is fixed; put files there",
    "--experimental-rerun": "repeat the command instead: finished runs are skipped, interrupted ones go on",
}


@dataclass(frozen=True)
class Flags:
    """What was asked for."""

    overrides: tuple[str, ...]
    multirun: bool
    help: bool
    hydra_help: bool
    version: bool
    shell_completion: bool
    cfg: str | None
    package: str | None
    info: str | None


def parse_flags(arguments: Sequence[str]) -> Flags:
    """Split a command line into flags and overrides.

    Raises:
        ConfigError: with every flag that does not exist.
    """
    parser = _Parser(add_help=False, allow_abbrev=False)
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--multirun", "-m", action="store_true")
    parser.add_argument("--help", "-h", action="store_true")
    parser.add_argument("--hydra-help", action="store_true")
    parser.add_argument("--version", action="store_true")
    parser.add_argument("--shell-completion", "-sc", action="store_true")
    parser.add_argument("--cfg", "-c", nargs="?", const="job")
    parser.add_argument("--package", "-p")
    parser.add_argument("--info", "-i", nargs="?", const="all")
    found, unknown = parser.parse_known_intermixed_args(list(arguments))
    if unknown:
        raise ConfigError([_unknown(flag, parser) for flag in unknown])
    overrides = list(found.overrides)
    for name, words in (("cfg", CFG), ("info", INFO)):
        word = getattr(found, name)
        if word is None or word in words:
            continue
        if "=" not in word:
            raise ConfigError(
                [f"--{name} {word}: must be one of {', '.join(words)}{did_you_mean(closest(word, words))}"]
            )
        # `--info model=rdn`: argparse takes the next word, which is an override
        overrides.append(word)
        setattr(found, name, words[0])
    if found.package is not None and found.cfg is None:
        raise ConfigError([f"--package {found.package}: has no effect without --cfg"])
    if found.shell_completion and not " ".join(overrides).startswith(("install=", "uninstall=", "query=")):
        raise ConfigError(["--shell-completion: write install=bash or uninstall=bash after it"])
    return Flags(**{**vars(found), "overrides": tuple(overrides)})


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError([message.removeprefix("argument ")])


def _unknown(flag: str, parser: argparse.ArgumentParser) -> str:
    name = flag.split("=", 1)[0]
    if name in REFUSED:
        return f"{name}: not supported; {REFUSED[name]}"
    guess = closest(name, [option for action in parser._actions for option in action.option_strings])
    return f"{flag}: there is no such flag{did_you_mean(guess)}"
