"""Flags: Hydra's names, anywhere on the line, with an answer to wrong ones."""

import pytest

from rla_exp.cli.flags import parse_flags
from rla_exp.errors import ConfigError


def test_flags_may_stand_anywhere():
    flags = parse_flags(["model=rla", "-m", "seed=0,1", "--cfg", "hydra", "x=1"])
    assert flags.overrides == ("model=rla", "seed=0,1", "x=1")
    assert (flags.multirun, flags.cfg, flags.help) == (True, "hydra", False)


@pytest.mark.parametrize("name", ["cfg", "info"])
def test_a_word_after_a_flag_may_be_a_setting(name):
    flags = parse_flags([f"--{name}", "model=rla"])
    assert flags.overrides == ("model=rla",)
    assert getattr(flags, name) == {"cfg": "job", "info": "all"}[name]


@pytest.mark.parametrize(
    ("arguments", "problems"),
    [
        (
            ["--mulitrun", "-z", "seed=1"],
            ["--mulitrun: there is no such flag; did you mean --multirun?", "-z: there is no such flag"],
        ),
        (["--multi"], ["--multi: there is no such flag; did you mean --multirun?"]),
        (["--cfg", "jbo"], ["--cfg jbo: must be one of job, hydra, all; did you mean job?"]),
        (["--info", "x"], ["--info x: must be one of all, config, defaults, defaults-tree, plugins, searchpath"]),
        (["--package", "optim"], ["--package optim: has no effect without --cfg"]),
        (["--package"], ["--package/-p: expected one argument"]),
        (["--config-dir=x"], ["--config-dir: not supported; conf/ is fixed; put files there"]),
        (["-sc"], ["--shell-completion: write install=bash or uninstall=bash after it"]),
    ],
)
def test_a_wrong_flag_is_answered(arguments, problems):
    with pytest.raises(ConfigError) as caught:
        parse_flags(arguments)
    assert list(caught.value.problems) == problems
