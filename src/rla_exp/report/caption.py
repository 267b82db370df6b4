"""The words of a table: what its numbers, marks and gaps mean, and where they come from."""

from __future__ import annotations

from rla_exp.report.spec_file import LearnedColumn, MetricColumn
from rla_exp.report.table import NOT_RUN, Cell, Table

ARROWS = {"max": "↑", "min": "↓", None: ""}
MARKS = {"better": "▲", "worse": "▼", None: ""}


def notes(table: Table) -> list[str]:
    """The caption's sentences, in the order in which they are read."""
    spec = table.spec
    warning = [spec.warning] if spec.warning else []
    return [
        *warning,
        spec.caption,
        _spread(table),
        f"Learning rate: {spec.lr_rule}",
        *_learned(table),
        *_marks(table),
        *_gaps(table),
        *_origins(table),
    ]


def headers(table: Table) -> dict[str, tuple[str, str]]:
    """By column key: the study that the column belongs to (empty: all or any), and its label with its direction."""
    named = {}
    for key, column in table.spec.columns.items():
        study = "" if column.kind == "failed" else table.spec.studies[column.study].label
        arrow = ARROWS[column.direction] if isinstance(column, MetricColumn) else ""
        named[key] = (study, f"{column.label} {arrow}".strip())
    return named


def marked(text: str, cell: Cell) -> str:
    """Text of a cell with the cell's mark: 0.912 ± 0.021 ▼."""
    return f"{text} {MARKS[cell.mark]}".strip()


def _spread(table: Table) -> str:
    seeds = table.spec.seeds
    listed = ", ".join(str(seed) for seed in seeds)
    if len(seeds) == 1:
        return f"One seed ({listed}), so that nothing is known about the spread."
    return f"Cells are mean ± sample standard deviation over n = {len(seeds)} seeds ({listed})."


def _learned(table: Table) -> list[str]:
    return [
        f"{column.label}: seeds that ended above {column.above:g} in {table.spec.studies[column.study].label} "
        f"{column.metric}; a failed seed has not learned."
        for column in table.spec.columns.values()
        if isinstance(column, LearnedColumn)
    ]


def _marks(table: Table) -> list[str]:
    columns = [
        column for column in table.spec.columns.values() if isinstance(column, MetricColumn) and column.direction
    ]
    if not columns or len(table.spec.seeds) == 1:
        return []
    reference = next((row.label for row in table.spec.rows if row.key == table.spec.reference), None)
    best = (
        "Bold: the best row of its group, chosen on validation data, if the 95% interval (Student's t) of its paired "
        "differences over equal seeds leaves out zero against every other row without failed seeds; otherwise nothing "
        "is bold."
    )
    if reference is None:
        return [best]
    return [
        best,
        f"{MARKS['better']} better, {MARKS['worse']} worse than '{reference}' of the same group on the numbers shown, "
        "by the same interval; no mark: not told apart.",
    ]


def _gaps(table: Table) -> list[str]:
    found = []
    if table.count("missing"):
        found.append(
            "missing (k of n): runs that are not finished; a mean is then over the others, and nothing in that column "
            "and group is bold."
        )
    if table.count("failed"):
        found.append(
            "failed (k of n): runs that ended without a result (loss or gradient not finite, or an error); a mean is "
            "then over the others."
        )
    if any(not cell.runs for cell in table.cells.values()):
        found.append(f"{NOT_RUN}: not run at this scale.")
    return found


def _origins(table: Table) -> list[str]:
    mixed = [origin.describe() for origin in table.origins if origin.is_mixed]
    warning = [f"MIXED, shown because mixed=true: these runs are not strictly comparable; {'; '.join(mixed)}."]
    known = [origin.describe() for origin in table.origins if not origin.is_mixed and origin.runs]
    return (warning if mixed else []) + ([f"All runs: {'; '.join(known)}."] if known else [])
