"""cells.json: from every cell back to its runs."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from rla_exp.report.caption import headers, notes
from rla_exp.report.spec_file import MetricColumn
from rla_exp.report.table import Cell, Table, selection_metric


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
        "mixed": any(origin.is_mixed for origin in table.origins),
        "columns": {
            key: {"study": study, "label": label, "kind": spec.columns[key].kind}
            for key, (study, label) in headers(table).items()
        },
        "rows": [{"group": row.group, "row": row.key, "label": row.label} for row in spec.rows],
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
        "missing": cell.count("missing"),
        **(asdict(cell.summary) if cell.summary else {"n": 0, "mean": None, "sd": None, "min": None, "max": None}),
        "values": cell.values,
        "best": cell.best,
        "mark": cell.mark,
        "difference": asdict(cell.difference) if cell.difference else None,
        "runs": [
            {
                "study": run.request.study,
                "seed": run.request.seed,
                "state": run.state,
                "folder": run.folder or None,
                "error": run.error,
            }
            for run in cell.runs
        ],
    }
    if isinstance(column, MetricColumn):
        content["metric"] = column.metric
        if column.direction is not None:
            content["selection"] = {
                "metric": selection_metric(column),
                "mean": cell.selection.mean if cell.selection else None,
            }
    return content
