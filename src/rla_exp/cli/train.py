"""`python scripts/train.py ...` (installed as `rla-train`): one run, or with --multirun a sweep of them."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryDirectory

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig

from rla_exp.cli.describe import commented, help_text
from rla_exp.cli.flags import INFO, Flags, parse_flags
from rla_exp.cli.hydra_settings import is_hydras, one_line
from rla_exp.cli.multirun import check_sweep, stored_sweep
from rla_exp.cli.outcome import exit_code
from rla_exp.config import Composed, compose, conf_dir
from rla_exp.config.catalog import MAIN, read_catalog
from rla_exp.config.keys import schema_keys
from rla_exp.config.overrides import for_hydra
from rla_exp.config.wording import closest, did_you_mean
from rla_exp.errors import ConfigError, UserError


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    return exit_code(lambda: _command(parse_flags(given)))


def _command(flags: Flags) -> None:
    ours = [override for override in flags.overrides if not is_hydras(override)]
    if flags.help:
        print(help_text(_program(), read_catalog(conf_dir()), INFO), end="")
    elif flags.version:
        print(f"rla_exp {_version()}")
    elif flags.shell_completion or flags.hydra_help:
        _call_hydra(["--shell-completion" if flags.shell_completion else "--hydra-help", *flags.overrides])
    elif flags.cfg == "job":
        _print_config(compose(ours), flags.package)
    elif flags.cfg or flags.info:
        compose(ours)
        words = ["--cfg", flags.cfg] if flags.cfg else ["--info", str(flags.info)]
        package = ["--package", flags.package] if flags.package else []
        _call_hydra([*words, *package, *map(_as_hydra_takes_it, flags.overrides)])
    elif flags.multirun:
        ours += stored_sweep(ours)
        hydras = [override for override in flags.overrides if is_hydras(override)]
        check_sweep(ours, hydras)
        # hydra writes down the sweep, which the runs' folders do better
        with TemporaryDirectory() as folder:
            words = [f"hydra.sweep.dir='{folder}'", "hydra.sweeper.params=null", *hydras, *map(for_hydra, ours)]
            _call_hydra(["--multirun", *words])
    else:
        _train(compose(flags.overrides))


def _train(composed: Composed) -> None:
    # torch is imported only now: a wrong name is answered at once
    from rla_exp.lit.train import train_run
    from rla_exp.runs import RunFolder

    # a file's time is that of a coarser clock, some milliseconds behind
    started = time.time() - 0.05
    result = train_run(composed)
    file = RunFolder.of(composed.config, result.provenance["identity"]).path / "result.json"
    print(f"{'finished before' if file.stat().st_mtime < started else 'done'}: {file}")
    for name, value in result.metrics.items():
        if not name.startswith("valid/"):
            print(f"  {name} {value:.6g}")


def _print_config(composed: Composed, package: str | None) -> None:
    try:
        print(commented(composed, package), end="")
    except KeyError:
        guess = closest(str(package), [*composed.resolved, *schema_keys()])
        raise ConfigError([f"--package {package}: there is no such part{did_you_mean(guess)}"]) from None


def _call_hydra(words: Sequence[str]) -> None:
    """Leave a command line, all of whose settings are checked, to Hydra.

    Raises:
        UserError: in place of Hydra's own errors.
    """

    @hydra.main(config_path=str(conf_dir()), config_name=MAIN, version_base="1.3")
    def train(_: DictConfig) -> None:
        _train(compose(HydraConfig.get().overrides.task))

    try:
        with _command_line(words):
            train()
    except HydraException as error:
        raise UserError(one_line(error)) from None
    except SystemExit as stop:
        # hydra leaves so after printing help and the like
        if stop.code:
            raise


@contextmanager
def _command_line(words: Sequence[str]) -> Iterator[None]:
    """Hydra reads sys.argv; with HYDRA_FULL_ERROR it raises what it would print and exit on."""
    arguments, full_error = sys.argv, os.environ.get("HYDRA_FULL_ERROR")
    sys.argv = [arguments[0], *words]
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        yield
    finally:
        sys.argv = arguments
        if full_error is None:
            del os.environ["HYDRA_FULL_ERROR"]
        else:
            os.environ["HYDRA_FULL_ERROR"] = full_error


def _as_hydra_takes_it(override: str) -> str:
    return override if is_hydras(override) else for_hydra(override)


def _program() -> str:
    called = Path(sys.argv[0])
    return f"python {called}" if called.suffix == ".py" else called.name


def _version() -> str:
    try:
        return version("rla_exp")
    except PackageNotFoundError:
        return "(a source checkout that is not installed)"


if __name__ == "__main__":
    sys.exit(main())
