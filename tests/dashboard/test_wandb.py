"""The W&B workspace and report: the library's own objects and requests, against a stand-in for the service."""

from __future__ import annotations

import base64
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import wandb

from rla_exp.cli import dashboard as command
from rla_exp.dashboard.records import read_records
from rla_exp.errors import UserError
from rla_exp.runs import RunFolder

with warnings.catch_warnings():
    # the library is not free of what pydantic deprecates
    warnings.simplefilter("ignore", DeprecationWarning)
    import wandb_workspaces.reports.v2 as wr
    import wandb_workspaces.workspaces as ws

    from rla_exp.dashboard.wandb_layout import Logged, lay_out_report, lay_out_workspace
    from rla_exp.dashboard.wandb_publish import publish

KEY = "study/rdn-full-mqar-00000001"
MIRRORED = {"logger.kind": "wandb", "logger.project": "mine"}
MakeRun = Callable[..., RunFolder]


class Service:
    """Keeps what upsertView sends and answers the queries for it, in the form that the library reads."""

    app_url = "https://wandb.example.org"

    def __init__(self) -> None:
        self.views: dict[str, dict[str, Any]] = {}
        self.failure: Exception | None = None

    def execute_graphql(self, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        if self.failure is not None:
            raise self.failure
        if "upsertView(" in query:
            number = variables.get("id") or base64.b64encode(f"View:{len(self.views)}".encode()).decode()
            project = {"id": "p", "name": variables["projectName"], "entityName": variables["entityName"]}
            kept = {key: variables[key] for key in ("name", "displayName", "description", "spec", "type")}
            self.views[number] = {"id": number, "project": project, **kept}
            return {"upsertView": {"view": self.views[number], "inserted": True}}
        if "SpecificReport" in query:
            return {"view": self.views.get(variables["reportId"])}
        if "internalId" in query:
            return {"project": {"internalId": "17"}}
        found = [view for view in self.views.values() if view["name"] == variables["viewName"]]
        return {"project": {"allViews": {"edges": [{"node": view} for view in found]}}}


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Service:
    service = Service()

    class Api:
        default_entity = "me"

        def __init__(self) -> None:
            self._service_api = service

        def projects(self, entity: str) -> list[Any]:
            assert entity == "me"
            return []

        def create_project(self, name: str, entity: str) -> None:
            assert (name, entity) == ("mine", "me")

    monkeypatch.setattr(wandb, "Api", Api)
    return service


@pytest.fixture
def logged() -> Logged:
    names = ["step", "train/loss", "valid/loss", "diag/layer0/gamma_mean", "diag/layer11/gamma_mean", "diag/grad_norm"]
    return Logged.of(names, ["test/loss", "test/accuracy", "parameters"])


def panels_by_section(workspace: ws.Workspace) -> dict[str, list[str | None]]:
    return {section.name: [panel.title for panel in section.panels] for section in workspace.sections}


def test_workspace(logged: Logged) -> None:
    workspace = lay_out_workspace(ws.Workspace(entity="me", project="mine"), logged)
    assert panels_by_section(workspace) == {
        "Results": ["test/accuracy", "test/loss"],
        "Held-out": ["valid/loss"],
        "Training": ["diag/grad_norm", "train/loss"],
        "Gates, residuals and states by layer": ["gamma_mean"],
    }
    # the form in which the library sends it
    view = json.loads(workspace._to_model().spec.model_dump_json(by_alias=True, exclude_none=True))
    (runs,) = view["section"]["runSets"]
    assert [key["name"] for key in runs["grouping"]] == ["experiment.value", "group"]
    layers = view["section"]["panelBankConfig"]["sections"][3]["panels"][0]["config"]
    assert layers["metricRegex"] == r"diag/layer\d+/gamma_mean"
    assert (layers["groupBy"], layers["groupAgg"], layers["groupArea"]) == ("group", "mean", "stddev")


def test_report(logged: Logged, service: Service) -> None:
    report = wr.Report(entity="me", project="mine")
    lay_out_report(report, logged, ["study", "other"], {"ablation/cpu": "| a | b |\n"})
    headings = [block.text for block in report.blocks if isinstance(block, wr.H1)]
    assert headings == ["Table ablation/cpu", "study", "other"]
    assert [block.text for block in report.blocks if isinstance(block, wr.MarkdownBlock)] == ["| a | b |\n"]
    grids = [block for block in report.blocks if isinstance(block, wr.PanelGrid)]
    assert [panel.title for grid in grids for panel in grid.panels] == [
        *("test/accuracy", "test/loss", "valid/loss", "diag/grad_norm", "train/loss", "gamma_mean") * 2
    ]
    text = report._to_model().spec.model_dump_json(by_alias=True, exclude_none=True)
    sets = [block["metadata"]["runSets"][0] for block in json.loads(text)["blocks"] if "metadata" in block]
    # two experiments of four sections
    assert [(runs["name"], "study" in json.dumps(runs["filters"])) for runs in sets] == [("study", True)] * 4 + [
        ("other", False)
    ] * 4
    assert all(runs["grouping"][0]["name"] == "group" for runs in sets)


def test_publishing_again_updates(service: Service, make_run: MakeRun, tmp_path: Path) -> None:
    make_run(tmp_path, KEY, settings=MIRRORED, num_layers=2)
    make_run(tmp_path, "private/rdn-full-mqar-00000002")
    records = read_records(tmp_path)
    (first,) = publish(records, {"ablation/cpu": "a table"}, tmp_path)
    assert first.project == "me/mine"
    assert first.workspace.startswith("https://wandb.example.org/me/mine?nw=")
    assert [view["type"] for view in service.views.values()] == ["project-view", "runs"]
    (again,) = publish(records, {"ablation/cpu": "another"}, tmp_path)
    assert again == first
    assert len(service.views) == 2
    workspace = ws.Workspace.from_url(again.workspace)
    assert list(panels_by_section(workspace)) == [
        "Results",
        "Held-out",
        "Training",
        "Gates, residuals and states by layer",
    ]
    report = wr.Report.from_url(again.report)
    assert [block.text for block in report.blocks if isinstance(block, wr.MarkdownBlock)] == ["another"]
    # runs that never went to W&B are no part of it
    assert [block.text for block in report.blocks if isinstance(block, wr.H1)] == ["Table ablation/cpu", "study"]


def test_a_service_that_refuses(service: Service, make_run: MakeRun, tmp_path: Path) -> None:
    make_run(tmp_path, KEY, settings=MIRRORED)
    records = read_records(tmp_path)
    publish(records, {}, tmp_path)
    service.views = {number: view for number, view in service.views.items() if view["type"] != "runs"}
    with pytest.raises(UserError, match="there is no report"):
        publish(records, {}, tmp_path)
    service.views.clear()
    with pytest.raises(UserError, match=r"not found.*delete .*wandb_dashboards.json"):
        publish(records, {}, tmp_path)
    service.failure = wandb.errors.CommError("no way to the server")
    with pytest.raises(UserError, match="no way to the server"):
        publish(records, {}, tmp_path)


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.chdir(tmp_path)
    return monkeypatch


def test_without_credentials_the_command_says_so(
    keys: pytest.MonkeyPatch, make_run: MakeRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_run(tmp_path / "runs", KEY, settings=MIRRORED)
    (folder.path / "wandb/offline-run-1-a").mkdir(parents=True)
    assert command.main([]) == 0
    out = capsys.readouterr().out
    assert "1 runs, 0 tables: dashboard/index.html" in out
    assert "W&B: no credentials" in out
    assert f"wandb sync runs/{KEY}/seed0/wandb/offline-run-1-a" in out


def test_with_credentials_the_command_publishes(
    keys: pytest.MonkeyPatch, service: Service, make_run: MakeRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys.setenv("WANDB_API_KEY", "key")
    assert command.main([]) == 0
    assert "W&B: no run was logged there" in capsys.readouterr().out
    make_run(tmp_path / "runs", KEY, settings=MIRRORED)
    table = tmp_path / "results/ablation/cpu"
    table.mkdir(parents=True)
    (table / "table.md").write_text("# A table")
    assert command.main([]) == 0
    out = capsys.readouterr().out
    assert "W&B me/mine: workspace https://wandb.example.org/me/mine?nw=" in out
    report = next(view for view in service.views.values() if view["type"] == "runs")
    assert "# A table" in report["spec"]
