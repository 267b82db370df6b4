"""Columns for the domains of a test split, which only the runs' results name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from rla_exp.report.columns import AnyColumn, MetricColumn, selection_metric
from rla_exp.report.outcome import Outcome
from rla_exp.report.spec import TableSpec

METRIC = "test/bits_per_byte"
# a number after the @ is a length of sequences
_DOMAIN = re.compile(re.escape(METRIC) + r"@(.*\D.*)")


def with_domain_columns(spec: TableSpec, outcomes: Sequence[Outcome]) -> TableSpec:
    """The table with a column for each domain behind each column of bits per byte."""
    columns: dict[str, AnyColumn] = {}
    for key, column in spec.columns.items():
        columns[key] = column
        if not isinstance(column, MetricColumn) or column.metric != METRIC:
            continue
        done = [run for run in outcomes if run.state == "done" and run.request.study == column.study]
        found = dict.fromkeys(match[1] for run in done for name in run.metrics if (match := _DOMAIN.fullmatch(name)))
        for domain in found:
            columns[f"{key}@{domain}"] = column.model_copy(
                update={
                    "label": f"{column.label}, {domain}",
                    "metric": f"{METRIC}@{domain}",
                    # validation has no domains
                    "chosen_by": selection_metric(column),
                    "figure": False,
                }
            )
    return replace(spec, columns=columns)
