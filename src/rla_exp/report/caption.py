"""The words of a table: what its numbers, marks and gaps mean, and where they come from."""

from __future__ import annotations

from rla_exp.report.columns import (
    ComparedColumn,
    DivergedColumn,
    LearnedColumn,
    ReportedColumn,
    ScoreColumn,
    TraceColumn,
    study_of,
)
from rla_exp.report.learning_rate import Choice
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
        *_choices(table),
        *_learned(table),
        *_traces(table),
        *_reported(table),
        *_marks(table),
        *_gaps(table),
        *_origins(table),
    ]


def headers(table: Table) -> dict[str, tuple[str, str]]:
    """By column key: the study that the column belongs to (empty: all or any), and its label with its direction."""
    named = {}
    for key, column in table.spec.columns.items():
        belongs_to = study_of(column)
        study = "" if belongs_to is None else table.spec.studies[belongs_to].label
        arrow = ARROWS[column.direction] if isinstance(column, ComparedColumn) else ""
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


def _choices(table: Table) -> list[str]:
    said = []
    for study, rule in table.spec.rules.items():
        word = "lowest" if rule.direction == "min" else "highest"
        label = table.spec.studies[study].label
        candidates = ", ".join(f"{lr:g}" for lr in rule.candidates)
        seeds = ", ".join(str(seed) for seed in rule.seeds)
        steps = "of whole runs, the table's own among them"
        if rule.share < 1:
            steps = f"after {rule.share:.0%} of the steps, with a schedule of that length"
        mean = f"mean {rule.metric} over seeds {seeds} {steps}"
        which = f"the one with the {word} {mean}"
        if rule.tie_seeds:
            more = ", ".join(str(seed) for seed in rule.tie_seeds)
            which += f"; of those within {rule.margin:g} of it the one with the {word} mean over seeds {seeds}, {more}"
        said.append(f"{label}: each row has of {candidates} {which}; the test split has no part in it.")
        choices = [choice for choice in table.choices if choice.study == study and choice.lr is not None]
        at_edge = [_row_label(table, choice) for choice in choices if choice.at_edge]
        if at_edge:
            rows = ", ".join(at_edge)
            said.append(f"{label}: chosen at the end of what was tried, so that a better one may lie beyond: {rows}.")
        diverged = [_row_label(table, choice) for choice in choices if choice.all_diverged]
        if diverged:
            said.append(f"{label}: every rate that was tried diverged, and the smallest stands: {', '.join(diverged)}.")
    return said


def _row_label(table: Table, choice: Choice) -> str:
    row = next(row for row in table.spec.rows if row.id == choice.row)
    return f"{row.group_label} {row.label} ({choice.lr:g})"


def _traces(table: Table) -> list[str]:
    words = {"max": "largest", "mean": "mean", "last": "last"}
    said = []
    for column in table.spec.columns.values():
        if isinstance(column, TraceColumn):
            layers = f"{words[column.layers]} over layers, " if "*" in column.metric else ""
            said.append(
                f"{column.label}: {column.metric}, {layers}{words[column.steps]} over the logged steps; a run that "
                "diverged counts up to its end."
            )
        if isinstance(column, DivergedColumn):
            said.append(f"{column.label}: runs that met a loss, gradient or result that is not finite.")
    # two studies may have columns alike
    return list(dict.fromkeys(said))


def _reported(table: Table) -> list[str]:
    said = []
    for column in table.spec.columns.values():
        if isinstance(column, ReportedColumn):
            file = table.spec.reported[column.source]
            value = file.value(column.value)
            said.append(
                f"{column.label}: not ours; {value.label} ({value.unit}) as reported in {file.title}, {file.url}, "
                f"{value.source}. {file.note} Other data, size and tokenizer than in our columns: not to be compared."
            )
    return said


def _marks(table: Table) -> list[str]:
    columns = [
        column for column in table.spec.columns.values() if isinstance(column, ComparedColumn) and column.direction
    ]
    if not columns or len(table.spec.seeds) == 1:
        return []
    scored = any(isinstance(column, ScoreColumn) for column in columns)
    suites = " (evaluation suites: on the scores shown)" if scored else ""
    best = (
        f"Bold: the best row of its group, chosen on validation data{suites}, if the 95% interval (Student's t) of its "
        "paired differences over equal seeds leaves out zero against every other row without failed seeds, there and "
        "on the numbers shown; otherwise nothing is bold."
    )
    references = _references(table)
    if references is None:
        return [best]
    return [
        best,
        f"{MARKS['better']} better, {MARKS['worse']} worse than {references} of the same group on the numbers shown, "
        "by the same interval; no mark: not told apart.",
    ]


def _references(table: Table) -> str | None:
    """'full', or each row's own: 'GDN' (for RDN), 'linear attention' (for RLA)."""
    labels = {row.key: row.label for row in table.spec.rows}
    compared: dict[str, list[str]] = {}
    for row in table.spec.rows:
        if row.reference in labels and row.reference != row.key:
            rows = compared.setdefault(labels[row.reference], [])
            if row.label not in rows:
                rows.append(row.label)
    if len(compared) < 2:
        return next((f"'{label}'" for label in compared), None)
    return ", ".join(f"'{label}' (for {', '.join(rows)})" for label, rows in compared.items())


def _gaps(table: Table) -> list[str]:
    found = []
    if any(cell.num_missing for cell in table.cells.values()):
        found.append(
            "missing (k of n): runs that are not finished; a mean is then over the others, and nothing in that column "
            "and group is bold."
        )
    if table.count("failed"):
        found.append(
            "failed (k of n): runs that ended without a result (loss or gradient not finite, or an error); a mean is "
            "then over the others."
        )
    if any(cell.is_empty for cell in table.cells.values()):
        found.append(f"{NOT_RUN}: not run at this scale.")
    return found


def _origins(table: Table) -> list[str]:
    mixed = [origin.describe() for origin in table.origins if origin.is_mixed]
    warning = [f"MIXED, shown because mixed=true: these runs are not strictly comparable; {'; '.join(mixed)}."]
    known = [origin.describe() for origin in table.origins if not origin.is_mixed and origin.runs]
    return (warning if mixed else []) + ([f"All runs: {'; '.join(known)}."] if known else [])
