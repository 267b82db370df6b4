"""cells.json: from every cell back to its runs."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from rla_exp.report.caption import headers, notes
from rla_exp.report.columns import (
    ComparedColumn,
    MetricColumn,
    ReportedColumn,
    ScoreColumn,
    TraceColumn,
    selection_metric,
)
from rla_exp.report.learning_rate import Choice
from rla_exp.report.outcome import Outcome
from rla_exp.report.table import Cell, Table


def to_cells(table: Table) -> dict[str, Any]:
    """The whole table as plain data: {"table", "scale", "title", "seeds", "notes", "columns", "rows", "cells"}."""
    spec = table.spec
    return {
        "table": spec.name,
        "scale": spec.scale,
        "title": spec.title,
        "warning": spec.warning,
        "seeds": list(spec.seeds),
        "reference": spec.reference,
        "notes": notes(table),
        "learning_rates": [_choice(choice) for choice in table.choices],
        "reported": {
            name: {"title": file.title, "url": file.url, "note": file.note} for name, file in spec.reported.items()
        },
        "mixed": any(origin.is_mixed for origin in table.origins),
        "columns": {
            key: {"study": study, "label": label, "kind": spec.columns[key].kind}
            for key, (study, label) in headers(table).items()
        },
        "rows": [
            {"group": row.group, "group_label": row.group_label, "row": row.key, "label": row.label}
            for row in spec.rows
        ],
        "cells": [
            _cell(table, cell) for row in spec.rows for cell in (table.cells[row.id, key] for key in spec.columns)
        ],
    }


def _cell(table: Table, cell: Cell) -> dict[str, Any]:
    column = table.spec.columns[cell.column]
    content: dict[str, Any] = {
        "group": cell.row.group,
        "row": cell.row.key,
        "column": cell.column,
        "text": cell.text,
        "planned": len(cell.runs),
        "failed": cell.count("failed"),
        "missing": cell.num_missing,
        **(asdict(cell.summary) if cell.summary else {"n": 0, "mean": None, "sd": None, "min": None, "max": None}),
        "half_width": cell.summary.half_width if cell.summary else None,
        "values": cell.values,
        "best": cell.best,
        "mark": cell.mark,
        "difference": asdict(cell.difference) if cell.difference else None,
        "runs": [_run(run) for run in cell.runs],
    }
    if isinstance(column, ReportedColumn):
        value = table.spec.reported[column.source].value(column.value)
        content["reported"] = {"source": column.source, "where": value.source, "unit": value.unit}
    if isinstance(column, MetricColumn | ScoreColumn | TraceColumn):
        content["metric"] = column.metric
    if isinstance(column, ComparedColumn) and column.direction is not None:
        content["selection"] = {
            "metric": selection_metric(column) if isinstance(column, MetricColumn) else column.metric,
            "mean": cell.selection.mean if cell.selection else None,
        }
    return content


def _run(run: Outcome) -> dict[str, Any]:
    return {
        "study": run.request.study,
        "seed": run.request.seed,
        "state": run.state,
        "folder": run.folder or None,
        "error": run.error,
    }


def _choice(choice: Choice) -> dict[str, Any]:
    group, _, row = choice.row.partition("/")
    return {
        "group": group,
        "row": row,
        "study": choice.study,
        "metric": choice.rule.metric,
        "lr": choice.lr,
        "at_edge": choice.at_edge,
        "all_diverged": choice.all_diverged,
        "candidates": [
            {"lr": candidate.lr, "score": candidate.score, "runs": [_run(run) for run in candidate.runs]}
            for candidate in choice.candidates
        ],
    }
