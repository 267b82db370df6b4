"""`python scripts/hand_over.py pack=runs.tar.xz`: finished runs as one small file, from one machine to the next."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from rla_exp.cli.key_values import Key, describe_keys, not_negative, read_key_values
from rla_exp.cli.outcome import exit_code
from rla_exp.errors import ConfigError
from rla_exp.runs.archive import Handed, pack_runs, unpack_runs
from rla_exp.runs.files import expand_home

KEYS = {
    "pack": Key(expand_home, "a .tar.xz file", "write the runs below `runs` into it"),
    "unpack": Key(expand_home, "a .tar.xz file", "put the runs in it below `runs`"),
    "runs": Key(expand_home, "a folder", "where runs are kept; default runs"),
    "checkpoint_mib": Key(
        not_negative, "a number from 0 on", "pack interrupted runs whose last checkpoint is no larger; default 0: none"
    ),
}

HELP = f"""Hand runs on to another machine: configurations, metrics, results and evaluations, without checkpoints.

usage: python scripts/hand_over.py pack=FILE|unpack=FILE [key=value ...]

{describe_keys(KEYS)}

What is finished where a file is unpacked stays as it is. Exit code 0: done. 1: a setting or file has to be mended."""

SHOWN = 12


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if {"-h", "--help", "help"} & set(arguments):
        print(HELP)
        return 0
    return exit_code(lambda: hand_over(**read_key_values(arguments, KEYS)))


def hand_over(
    *,
    pack: Path | None = None,
    unpack: Path | None = None,
    runs: Path = Path("runs"),
    checkpoint_mib: float | None = None,
) -> None:
    """Pack or unpack, and say what was done.

    Raises:
        ConfigError: neither or both are asked for, or a setting without effect.
        RunError: a file cannot be written or read.
    """
    if (pack is None) == (unpack is None):
        raise ConfigError(["give either pack=FILE or unpack=FILE"])
    if unpack is not None:
        if checkpoint_mib is not None:
            raise ConfigError(["checkpoint_mib: has no effect with unpack"])
        _tell("unpacked", unpack, unpack_runs(unpack, runs))
        return
    assert pack is not None
    handed = pack_runs(runs, pack, checkpoint_mib=checkpoint_mib or 0.0)
    _tell(f"packed ({pack.stat().st_size / 2**20:.2f} MiB)", pack, handed)


def _tell(verb: str, file: Path, handed: Handed) -> None:
    print(f"{verb}: {file}, {len(handed.taken)} runs; {len(handed.left)} left")
    for name, reason in list(handed.left.items())[:SHOWN]:
        print(f"  {name}: {reason}")
    if len(handed.left) > SHOWN:
        print(f"  and {len(handed.left) - SHOWN} more")
