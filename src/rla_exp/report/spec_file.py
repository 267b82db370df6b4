"""The typed form of conf/table/*.yaml: one model a section, every problem of a file reported at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from rla_exp.config.wording import closest, did_you_mean
from rla_exp.errors import ConfigError
from rla_exp.report.number import check_format


class Section(BaseModel):
    """A section of the file: unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Variant(Section):
    """A group or a row: what it is called and the overrides that make it."""

    label: str
    overrides: list[str] = []


class StudyFile(Section):
    """A task that rows are run on. A scale adds its settings."""

    label: str
    overrides: list[str] = []


Format = Annotated[str, AfterValidator(check_format)]


class ColumnFile(Section):
    """What the columns of every kind share."""

    label: str
    scales: list[str] | None = None
    """Scales that show the column; null: all."""


class MetricColumn(ColumnFile):
    """A number of result.json's `metrics`, summarized over seeds."""

    kind: Literal["metric"]
    study: str
    metric: str
    direction: Literal["max", "min"] | None = None
    """Which way is better; null: neither, so that no cell is marked."""
    format: Format
    limits: tuple[float, float] | None = None
    """Ends of the figure's axis."""
    figure: bool = False
    """Whether the figure has a panel for it."""


class ConstantColumn(ColumnFile):
    """A number of `metrics` that is the model's own, such as its size: shown once, not as a spread over seeds."""

    kind: Literal["constant"]
    study: str
    metric: str
    format: Format


class TimingColumn(ColumnFile):
    """A number of result.json's `timing`; never marked as best, for it depends on what else the machine does."""

    kind: Literal["timing"]
    study: str
    timing: str
    format: Format


class LearnedColumn(ColumnFile):
    """How many seeds ended with `metric` above a threshold; a failed seed has not learned."""

    kind: Literal["learned"]
    study: str
    metric: str
    above: float


class FailedColumn(ColumnFile):
    """How many of a row's runs failed, over all studies."""

    kind: Literal["failed"]


AnyColumn = Annotated[
    MetricColumn | ConstantColumn | TimingColumn | LearnedColumn | FailedColumn, Field(discriminator="kind")
]


class ScaleStudy(Section):
    """What a study is at one scale."""

    overrides: list[str] = []
    rows: list[str] | None = None
    """Rows that are run (in every group); null: all."""


class ScaleFile(Section):
    """How much is run: seeds, settings and the studies, by name. A study that is not named does not run."""

    warning: str | None = None
    """Stands first in every output, where the numbers are not to be read as results."""
    caption: str
    lr_rule: str
    seeds: list[int] = Field(min_length=1)
    overrides: list[str] = []
    studies: dict[str, ScaleStudy] = Field(min_length=1)


class TableFile(Section):
    """A whole file: rows (each run in every group), studies, columns and scales."""

    title: str
    caption: str
    reference: str
    """The row that paired differences are taken to, in each group."""
    overrides: list[str] = []
    groups: dict[str, Variant] = Field(min_length=1)
    rows: dict[str, Variant] = Field(min_length=1)
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


def unknown_name(what: str, name: object, known: Iterable[str]) -> str:
    """'row value_stat is unknown; known: ...; did you mean value_state?'"""
    known = list(known)
    guess = did_you_mean(closest(str(name), known))
    return f"{what} {name} is unknown; known: {', '.join(known)}{guess}"


def _wrong_references(file: TableFile) -> list[str]:
    problems = []
    if file.reference not in file.rows:
        problems.append(f"reference: {unknown_name('row', file.reference, file.rows)}")
    for key, column in file.columns.items():
        study = getattr(column, "study", None)
        if study is not None and study not in file.studies:
            problems.append(f"columns.{key}.study: {unknown_name('study', study, file.studies)}")
        problems += [
            f"columns.{key}.scales: {unknown_name('scale', scale, file.scales)}"
            for scale in column.scales or []
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
        case ["groups" | "rows", _, _]:
            section = Variant
        case ["studies", _, _]:
            section = StudyFile
        case ["columns", name, _]:
            kinds = {cls.model_fields["kind"].annotation: cls for cls in get_args(get_args(AnyColumn)[0])}
            kind = _at(raw, ["columns", name, "kind"])
            section = next(cls for annotation, cls in kinds.items() if get_args(annotation) == (kind,))
        case ["scales", _, "studies", _, _]:
            section = ScaleStudy
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
