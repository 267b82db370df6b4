"""`rla-dashboard`: the local HTML dashboard from the runs on disk and, with W&B credentials, the W&B one."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from rla_exp.cli.key_values import Key, describe_keys, read_key_values
from rla_exp.cli.outcome import exit_code
from rla_exp.dashboard import RunRecord, Site, build_site
from rla_exp.errors import UserError
from rla_exp.runs.files import expand_home
from rla_exp.runs.wandb_mirror import has_credentials, waiting_folders

MOST_LISTED = 10
"""Folders to sync that are named one by one."""

KEYS = {
    "runs": Key(expand_home, "a folder", "where runs are kept; default runs"),
    "results": Key(expand_home, "a folder", "where tables are kept; default results"),
    "out": Key(expand_home, "a folder", "where the site goes, an older one is replaced; default dashboard"),
}

HELP = f"""Build the local HTML dashboard from the runs on disk.

usage: rla-dashboard [key=value ...]

{describe_keys(KEYS)}

The site opens from its folder: no server, no network. With W&B credentials a workspace and a report are made or
updated for each project that runs were logged to. See docs/dashboards.md.

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
    """Build the site, publish at W&B where that can be, and say where both are.

    Raises:
        UserError: the folder of the site cannot be used, or W&B refuses; the site is built first.
    """
    site = build_site(settings.runs, settings.results, settings.out)
    print(f"{len(site.records)} runs, {site.num_tables} tables: {site.index}")
    for problem in site.problems:
        print(f"  cannot be read, left out: {problem}", file=sys.stderr)
    _publish(settings, site)


def _publish(settings: DashboardSettings, site: Site) -> None:
    """W&B's part, or why there is none."""
    mirrored = [record for record in site.records if record.setting("logger.kind") == "wandb"]
    waiting = [folder for record in mirrored for folder in waiting_folders(record.folder)]
    if not has_credentials():
        print("W&B: no credentials (`wandb login`, or WANDB_API_KEY), so the local dashboard is all")
    elif not mirrored:
        print("W&B: no run was logged there; logger=wandb does")
    else:
        _publish_runs(settings, mirrored)
    if waiting:
        print(f"W&B: {len(waiting)} offline runs are not sent yet:")
        print("\n".join(f"  wandb sync {folder}" for folder in waiting[:MOST_LISTED]))
        if len(waiting) > MOST_LISTED:
            print(f"  and {len(waiting) - MOST_LISTED} more")


def _publish_runs(settings: DashboardSettings, mirrored: Sequence[RunRecord]) -> None:
    if find_spec("wandb_workspaces") is None:
        raise UserError("W&B: workspaces and reports need another package: pip install 'rla_exp[dashboard]'")
    # imported here: an optional package, which takes seconds
    from rla_exp.dashboard.wandb_publish import publish

    files = sorted(settings.results.rglob("table.md"))
    tables = {file.parent.relative_to(settings.results).as_posix(): file.read_text(encoding="utf-8") for file in files}
    for made in publish(mirrored, tables, settings.runs):
        print(f"W&B {made.project}: workspace {made.workspace} report {made.report}")
