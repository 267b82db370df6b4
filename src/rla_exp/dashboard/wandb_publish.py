"""Creates the W&B workspace and report of each project that runs were logged to, or updates those made before."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import wandb
import wandb_workspaces.reports.v2 as wr
import wandb_workspaces.workspaces as ws

from rla_exp.dashboard.records import RunRecord
from rla_exp.dashboard.wandb_layout import Logged, lay_out_report, lay_out_workspace
from rla_exp.errors import UserError
from rla_exp.runs.files import read_json, write_json

STATE_FILE = "wandb_dashboards.json"
"""In the runs folder: by <entity>/<project> the addresses of what was made, so that it is updated the next time."""


@dataclass(frozen=True)
class Published:
    """What was made at W&B."""

    project: str
    """<entity>/<project>."""
    workspace: str
    report: str


def publish(records: Sequence[RunRecord], tables: Mapping[str, str], runs: Path) -> list[Published]:
    """Make or update a workspace and a report for each project that the runs were logged to.

    Args:
        tables: the text of table.md by the name of the table.
        runs: the runs folder, which remembers the addresses.

    Raises:
        UserError: W&B cannot be reached or refuses; what was published before stays.
    """
    file = runs / STATE_FILE
    known: dict[str, Any] = read_json(file) or {}
    published = []
    try:
        default_entity = wandb.Api().default_entity
        for (entity, project), group in by_project(records, default_entity).items():
            name = f"{entity}/{project}"
            made = _publish_project(entity, project, group, tables, known.get(name, {}))
            known[name] = made
            write_json(file, known)
            published.append(Published(name, **made))
    # what is gone at W&B is a ValueError, what cannot be reached an OSError or an Error of the library's
    except (wandb.Error, OSError, ValueError) as error:
        raise UserError(
            f"W&B: {error}. Check the login (`wandb login --verify`); if a workspace or report was deleted there, "
            f"delete {file} to have new ones made"
        ) from error
    return published


def by_project(records: Sequence[RunRecord], default_entity: str) -> dict[tuple[str, str], list[RunRecord]]:
    """The runs that log to W&B, by entity and project."""
    found: dict[tuple[str, str], list[RunRecord]] = defaultdict(list)
    for record in records:
        if record.setting("logger.kind") == "wandb":
            entity = str(record.setting("logger.entity") or default_entity)
            found[entity, str(record.setting("logger.project"))].append(record)
    return dict(found)


def _publish_project(
    entity: str, project: str, records: Sequence[RunRecord], tables: Mapping[str, str], known: Mapping[str, str]
) -> dict[str, str]:
    logged = Logged.of(
        {name for record in records for row in record.rows for name in row},
        {name for record in records if record.result for name in record.result.metrics},
    )
    experiments = sorted({record.experiment for record in records})
    if "workspace" in known:
        workspace = ws.Workspace.from_url(known["workspace"])
    else:
        workspace = ws.Workspace(entity=entity, project=project)
    lay_out_workspace(workspace, logged).save()
    report = _load_report(known["report"]) if "report" in known else wr.Report(entity=entity, project=project)
    lay_out_report(report, logged, experiments, tables).save()
    return {"workspace": str(workspace.url), "report": str(report.url)}


def _load_report(url: str) -> wr.Report:
    try:
        return wr.Report.from_url(url)
    except TypeError as error:
        # the library looks into the nothing that W&B answers
        raise ValueError(f"there is no report {url}") from error
