"""The typed form of conf/table/*.yaml: one model a section, every problem of a file reported at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, ValidationError

from rla_exp.errors import ConfigError
from rla_exp.report.columns import AnyColumn, Direction, ReportedColumn, ScoreColumn, Section, study_of
from rla_exp.report.unknown import unknown_name


class Variant(Section):
    """A group or a row: what it is called and the overrides that make it."""

    label: str
    overrides: list[str] = Field(default_factory=list)


class RowFile(Variant):
    """A row: run in every group."""

    reference: str | None = None
    """The row that it is compared with; null: the table's reference."""


class StudyFile(Section):
    """A task that rows are run on. A scale adds its settings."""

    label: str
    overrides: list[str] = Field(default_factory=list)


class ScaleStudy(Section):
    """What a study is at one scale."""

    overrides: list[str] = Field(default_factory=list)
    rows: list[str] | None = None
    """Rows that are run (in every group); null: all."""
    groups: list[str] | None = None
    """Groups that it is run in; null: all."""


class LearningRateRule(Section):
    """How each row of a study gets its learning rate: the candidate with the best mean score on validation data."""

    candidates: list[float] = Field(min_length=2)
    seeds: list[int] = Field(min_length=1)
    share: float = Field(gt=0, le=1)
    """Share of the study's steps that the candidates are trained for."""
    metric: str = Field(pattern="^valid/")
    direction: Direction
    margin: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """Scores no further than this from the best are a near tie, which tie_seeds decide."""
    tie_seeds: list[int] = Field(default_factory=list)
    """On these, too, the candidates of a near tie are trained; the best mean over all their seeds is then taken."""


class Assumption(Section):
    """What a plan assumes of a machine where no run has been measured."""

    flops_per_s: float = Field(gt=0)
    """Floating-point operations a second that training sustains in one job."""
    seconds_a_run: float = Field(ge=0)
    """Start, validation and test of a run."""
    jobs: int = Field(ge=1)
    """Jobs at a time."""
    machine: str
    """The machine, and where the rate comes from."""


class ScaleFile(Section):
    """How much is run: seeds, settings and the studies, by name. A study that is not named does not run."""

    warning: str | None = None
    """Stands first in every output, where the numbers are not to be read as results."""
    caption: str
    """{corpus} in it stands for `corpus`, or for the local files that are read instead."""
    corpus: str | None = None
    """The text that studies read, in words."""
    lr_rule: str
    seeds: list[int] = Field(min_length=1)
    overrides: list[str] = Field(default_factory=list)
    groups: dict[str, list[str]] = Field(default_factory=dict)
    """More overrides of groups, by name; they come after the group's own."""
    rows: dict[str, list[str]] = Field(default_factory=dict)
    """More overrides of rows, by name; they come after the row's own."""
    studies: dict[str, ScaleStudy] = Field(min_length=1)
    learning_rates: dict[str, LearningRateRule] = Field(default_factory=dict)
    """By study; a study that is not named has the learning rate of its overrides."""
    evaluation_limits: dict[str, Annotated[int, Field(ge=1)]] = Field(default_factory=dict)
    """By evaluation suite, documents of each task (of needles: of each length and depth); not named: all."""
    plan: Assumption | None = None


class TableFile(Section):
    """A whole file: rows (each run in every group), studies, columns and scales."""

    title: str
    caption: str
    kind: Literal["runs"] = "runs"
    reference: str
    """The row that paired differences are taken to, in each group."""
    figure: Literal["dots", "curves"] = "dots"
    """dots: a line a row, seeds beside their mean. curves: traces over the steps of training."""
    overrides: list[str] = Field(default_factory=list)
    groups: dict[str, Variant] = Field(min_length=1)
    rows: dict[str, RowFile] = Field(min_length=1)
    studies: dict[str, StudyFile] = Field(min_length=1)
    columns: dict[str, AnyColumn] = Field(min_length=1)
    scales: dict[str, ScaleFile] = Field(min_length=1)


def parse_table_file(raw: object, source: str) -> TableFile:
    """The file's content as a TableFile. Raises ConfigError with every problem; `source` names the file in it."""
    problems: list[str] = []
    if not isinstance(raw, dict):
        raise ConfigError([f"{source}: a table is a mapping of sections, not {type(raw).__name__}"])
    try:
        file = TableFile.model_validate(raw)
    except ValidationError as error:
        problems += [_sentence(raw, item["type"], item["loc"], item["msg"], item["input"]) for item in error.errors()]
        unknown = [item["loc"] for item in error.errors() if item["type"] == "extra_forbidden"]
        if len(unknown) < error.error_count():
            raise ConfigError([f"{source}: {problem}" for problem in problems]) from None
        # unknown keys alone: look further, so that one reading names wrong references too
        file = TableFile.model_validate(_without(raw, unknown))
    problems += _wrong_references(file)
    if problems:
        raise ConfigError([f"{source}: {problem}" for problem in problems])
    return file


def _wrong_references(file: TableFile) -> list[str]:
    problems = []
    if file.reference not in file.rows:
        problems.append(f"reference: {unknown_name('row', file.reference, file.rows)}")
    problems += [
        f"rows.{key}.reference: {unknown_name('row', row.reference, file.rows)}"
        for key, row in file.rows.items()
        if row.reference is not None and row.reference not in file.rows
    ]
    for key, column in file.columns.items():
        study = study_of(column)
        if study is not None and study not in file.studies:
            problems.append(f"columns.{key}.study: {unknown_name('study', study, file.studies)}")
        problems += [
            f"columns.{key}.groups: {unknown_name('group', group, file.groups)}"
            for group in (column.groups or [] if isinstance(column, ReportedColumn) else [])
            if group not in file.groups
        ]
        with_data = column.scales_with_data if isinstance(column, ScoreColumn) else []
        problems += [
            f"columns.{key}.{where}: {unknown_name('scale', scale, file.scales)}"
            for where, scales in (("scales", column.scales or []), ("scales_with_data", with_data))
            for scale in scales
            if scale not in file.scales
        ]
    for key, scale in file.scales.items():
        if len(set(scale.seeds)) < len(scale.seeds) or min(scale.seeds) < 0:
            problems.append(f"scales.{key}.seeds: {scale.seeds}; seeds are distinct integers from 0 on")
        for study, setting in scale.studies.items():
            where = f"scales.{key}.studies"
            if study not in file.studies:
                problems.append(f"{where}: {unknown_name('study', study, file.studies)}")
            problems += [
                f"{where}.{study}.rows: {unknown_name('row', row, file.rows)}"
                for row in setting.rows or []
                if row not in file.rows
            ]
            problems += [
                f"{where}.{study}.groups: {unknown_name('group', group, file.groups)}"
                for group in setting.groups or []
                if group not in file.groups
            ]
        if (scale.corpus is not None) != ("{corpus}" in scale.caption):
            problems.append(f"scales.{key}: corpus is what {{corpus}} in the caption stands for; give both or neither")
        problems += [
            f"scales.{key}.groups: {unknown_name('group', group, file.groups)}"
            for group in scale.groups
            if group not in file.groups
        ]
        problems += [
            f"scales.{key}.rows: {unknown_name('row', row, file.rows)}" for row in scale.rows if row not in file.rows
        ]
        suites = {column.suite for column in file.columns.values() if isinstance(column, ScoreColumn)}
        problems += [
            f"scales.{key}.evaluation_limits: {unknown_name('suite', suite, suites)}"
            for suite in scale.evaluation_limits
            if suite not in suites
        ]
        problems += [
            f"scales.{key}.learning_rates: {unknown_name('study', study, scale.studies)}"
            for study in scale.learning_rates
            if study not in scale.studies
        ]
        for study, rule in scale.learning_rates.items():
            where = f"scales.{key}.learning_rates.{study}"
            if bool(rule.margin) != bool(rule.tie_seeds):
                problems.append(
                    f"{where}: margin says what is a near tie and tie_seeds decide it; give both or neither"
                )
            if both := sorted({*rule.tie_seeds} & {*rule.seeds}):
                problems.append(f"{where}.tie_seeds: {both} are among its seeds already, {rule.seeds}")
    problems += [
        f"{where}: override {override!r} is not of the form key=value"
        for where, overrides in _all_overrides(file)
        for override in overrides
        if not override.partition("=")[0].strip() or "=" not in override
    ]
    return problems


def _all_overrides(file: TableFile) -> list[tuple[str, list[str]]]:
    found = [("overrides", file.overrides)]
    found += [(f"groups.{key}.overrides", group.overrides) for key, group in file.groups.items()]
    found += [(f"rows.{key}.overrides", row.overrides) for key, row in file.rows.items()]
    found += [(f"studies.{key}.overrides", study.overrides) for key, study in file.studies.items()]
    for key, scale in file.scales.items():
        found.append((f"scales.{key}.overrides", scale.overrides))
        found += [(f"scales.{key}.groups.{name}", overrides) for name, overrides in scale.groups.items()]
        found += [(f"scales.{key}.rows.{name}", overrides) for name, overrides in scale.rows.items()]
        found += [(f"scales.{key}.studies.{name}.overrides", study.overrides) for name, study in scale.studies.items()]
    return found


def _sentence(raw: object, kind: str, loc: tuple[int | str, ...], message: str, value: object) -> str:
    keys = _keys_in_file(loc)
    where = ".".join(str(key) for key in keys)
    if kind == "extra_forbidden":
        return f"{where}: {unknown_name('key', keys[-1], _fields_beside(raw, keys))}"
    if kind == "missing":
        return f"{where}: is missing"
    if isinstance(value, dict | list):
        return f"{where}: {message}"
    return f"{where}: is {value!r}; {message}"


def _keys_in_file(loc: tuple[int | str, ...]) -> list[int | str]:
    # pydantic puts the tag of a union into the location, where the file has no such key
    is_tagged = len(loc) > 2 and loc[0] == "columns"
    return [key for index, key in enumerate(loc) if not (is_tagged and index == 2)]


def _fields_beside(raw: object, keys: list[int | str]) -> list[str]:
    """The keys that may stand where an unknown one was found."""
    match keys:
        case [_]:
            section: type[Section] = TableFile
        case ["groups", _, _]:
            section = Variant
        case ["rows", _, _]:
            section = RowFile
        case ["studies", _, _]:
            section = StudyFile
        case ["columns", name, _]:
            kinds = {cls.model_fields["kind"].annotation: cls for cls in get_args(get_args(AnyColumn)[0])}
            kind = _at(raw, ["columns", name, "kind"])
            section = next(cls for annotation, cls in kinds.items() if get_args(annotation) == (kind,))
        case ["scales", _, "studies", _, _]:
            section = ScaleStudy
        case ["scales", _, "learning_rates", _, _]:
            section = LearningRateRule
        case ["scales", _, "plan", _]:
            section = Assumption
        case _:
            section = ScaleFile
    return list(section.model_fields)


def _at(raw: Any, keys: Iterable[int | str]) -> Any:
    for key in keys:
        raw = raw[key]
    return raw


def _without(raw: Mapping[str, Any], locations: Iterable[tuple[int | str, ...]]) -> dict[str, Any]:
    """A copy of nested mappings without the keys at these places."""
    paths = [_keys_in_file(loc) for loc in locations]

    def copy(node: Any, at: list[int | str]) -> Any:
        if not isinstance(node, Mapping):
            return node
        return {key: copy(child, [*at, key]) for key, child in node.items() if [*at, key] not in paths}

    return {key: copy(child, [key]) for key, child in raw.items() if [key] not in paths}
