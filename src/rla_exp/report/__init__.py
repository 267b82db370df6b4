"""Tables and figures, read from the files in the folders of runs and from nothing else."""

from rla_exp.report.live import render_rich
from rla_exp.report.outcome import MixedRunsError
from rla_exp.report.spec import RunRequest, TableSpec, table_names
from rla_exp.report.table import Cell, Table, collect
from rla_exp.report.write import check_writable, write_table

__all__ = [
    "Cell",
    "MixedRunsError",
    "RunRequest",
    "Table",
    "TableSpec",
    "check_writable",
    "collect",
    "render_rich",
    "table_names",
    "write_table",
]
