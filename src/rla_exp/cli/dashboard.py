"""`rla-dashboard`: the local HTML dashboard from the runs on disk and, with W&B credentials, the W&B one."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rla_exp.cli.key_values import Key, describe_keys, read_key_values
from rla_exp.cli.outcome import exit_code
from rla_exp.dashboard import build_site
from rla_exp.runs.files import expand_home

KEYS = {
    "runs": Key(expand_home, "a folder", "where runs are kept; default runs"),
    "results": Key(expand_home, "a folder", "where tables are kept; default results"),
    "out": Key(expand_home, "a folder", "where the site goes, an older one is replaced; default dashboard"),
}

HELP = f"""Build the local HTML dashboard from the runs on disk.

usage: rla-dashboard [key=value ...]

{describe_keys(KEYS)}

The site opens from its folder: no server, no network. See docs/dashboards.md.

Exit code 0: built. 1: a setting, file or folder has to be mended."""


@dataclass(frozen=True, kw_only=True)
class DashboardSettings:
    """The settings of the command; see KEYS."""

    runs: Path = Path("runs")
    results: Path = Path("results")
    out: Path = Path("dashboard")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if {"-h", "--help", "help"} & set(arguments):
        print(HELP)
        return 0
    return exit_code(lambda: make_dashboard(DashboardSettings(**read_key_values(arguments, KEYS))))


def make_dashboard(settings: DashboardSettings) -> None:
    """Build the site and say where it is.

    Raises:
        UserError: the folder of the site cannot be used.
    """
    site = build_site(settings.runs, settings.results, settings.out)
    print(f"{site.num_runs} runs, {site.num_tables} tables: {site.index}")
    for problem in site.problems:
        print(f"  cannot be read, left out: {problem}", file=sys.stderr)
