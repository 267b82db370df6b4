"""One table at one scale: which runs it needs and what it shows of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from rla_exp.config.locate import conf_dir
from rla_exp.errors import ConfigError
from rla_exp.report.columns import AnyColumn, PanelColumn, ReportedColumn, ScoreColumn, study_of
from rla_exp.report.local_text import LocalText, is_text
from rla_exp.report.reported import ReportedFile, load_reported
from rla_exp.report.spec_file import Assumption, LearningRateRule, TableFile, parse_table_file
from rla_exp.report.unknown import unknown_name


def table_names(folder: Path | None = None) -> list[str]:
    """The tables of conf/table/, sorted."""
    return sorted(file.stem for file in (conf_dir() / "table" if folder is None else folder).glob("*.yaml"))


@dataclass(frozen=True)
class Row:
    """A row in one group: `full` of `rdn`."""

    group: str
    group_label: str
    key: str
    label: str
    overrides: tuple[str, ...]
    reference: str
    """Key of the row of the same group that it is compared with."""

    @property
    def id(self) -> str:
        """Names the row in the whole table, as in rdn/full."""
        return f"{self.group}/{self.key}"


@dataclass(frozen=True)
class Study:
    """A task with its settings at this scale, and the keys of the rows and groups that are run on it."""

    key: str
    label: str
    overrides: tuple[str, ...]
    rows: tuple[str, ...]
    groups: tuple[str, ...]

    def has(self, group: str, row: str) -> bool:
        """Whether a row of a group is run on it."""
        return group in self.groups and row in self.rows


@dataclass(frozen=True)
class RunRequest:
    """One run that a table needs: the overrides that make it, and the row id, study and seed that it stands for."""

    overrides: tuple[str, ...]
    row: str
    study: str
    seed: int
    tried_lr: float | None = None
    """The candidate that it tries, where it is a run of the choice of a learning rate."""

    @property
    def label(self) -> str:
        """What a display calls it."""
        return f"{self.row} {self.study} {f'lr {self.tried_lr:g} ' if self.tried_lr else ''}seed {self.seed}"

    def setting(self, key: str) -> str | None:
        """The text of one override, such as optim.lr; None where it is not among them."""
        found = [value for name, _, value in (text.partition("=") for text in self.overrides) if name.strip() == key]
        return found[-1] if found else None


@dataclass(frozen=True)
class TableSpec:
    """A table of conf/table/ at one scale."""

    name: str
    scale: str
    title: str
    caption: str
    warning: str | None
    lr_rule: str
    reference: str
    seeds: tuple[int, ...]
    rows: tuple[Row, ...]
    studies: dict[str, Study]
    columns: dict[str, AnyColumn]
    figure: Literal["dots", "curves"]
    assumption: Assumption | None
    evaluation_limits: Mapping[str, int]
    """Documents of each task, by evaluation suite; not named: all."""
    reported: dict[str, ReportedFile]
    """The sources of reported columns, by name."""
    rules: dict[str, LearningRateRule]
    """How learning rates are chosen, by study."""
    text: LocalText | None = None
    """What studies on text read instead of their corpora."""
    learning_rates: Mapping[tuple[str, str], float] = field(default_factory=dict)
    """What was chosen, by row id and study."""

    @classmethod
    def load(
        cls,
        name: str,
        scale: str,
        seeds: Sequence[int] | None = None,
        *,
        text: LocalText | None = None,
        with_data: bool = False,
        folder: Path | None = None,
    ) -> TableSpec:
        """Read conf/table/<name>.yaml at a scale.

        `seeds` replaces the scale's own, `text` the corpora of its studies on text. `with_data` adds the columns of
        evaluation suites that the scale shows only where local files offer their tasks. `folder` is where tables are
        described (default: the package's conf/table). Raises ConfigError with every problem of the file, or where the
        table or scale is unknown or seeds are wrong.
        """
        folder = conf_dir() / "table" if folder is None else folder
        path = folder / f"{name}.yaml"
        if not path.is_file():
            raise ConfigError([unknown_name("table", name, table_names(folder))])
        try:
            raw = OmegaConf.to_container(OmegaConf.load(path), resolve=True)
        except (YAMLError, OmegaConfBaseException, UnicodeDecodeError) as error:
            raise ConfigError([f"{path.name}: cannot be read as YAML: {error}"]) from error
        file = parse_table_file(raw, path.name)
        if scale not in file.scales:
            raise ConfigError([unknown_name("scale", scale, file.scales)])
        chosen = tuple(file.scales[scale].seeds if seeds is None else seeds)
        if not chosen or len(set(chosen)) < len(chosen) or min(chosen) < 0:
            raise ConfigError([f"seeds: {list(chosen)}; seeds are one or more distinct integers from 0 on"])
        if text is not None and file.scales[scale].corpus is None:
            raise ConfigError([f"text: table {name} at scale {scale} has no place for another corpus in its caption"])
        spec = cls._at_scale(name, file, scale, chosen, text, with_data=with_data)
        if not spec.figure_columns:
            raise ConfigError(
                [f"{path.name}: no column has figure: true at scale {scale}; give it to what is compared"]
            )
        return spec

    @classmethod
    def _at_scale(
        cls,
        name: str,
        file: TableFile,
        scale: str,
        seeds: tuple[int, ...],
        text: LocalText | None,
        *,
        with_data: bool,
    ) -> TableSpec:
        settings = file.scales[scale]
        corpus = settings.corpus or "" if text is None else text.words
        studies = {
            key: Study(
                key,
                file.studies[key].label,
                _reading(
                    text,
                    merge_overrides(file.overrides, file.studies[key].overrides, settings.overrides, study.overrides),
                ),
                tuple(row for row in file.rows if study.rows is None or row in study.rows),
                tuple(group for group in file.groups if study.groups is None or group in study.groups),
            )
            for key, study in settings.studies.items()
        }
        rows = tuple(
            Row(
                group_key,
                group.label,
                row_key,
                row.label,
                merge_overrides(
                    group.overrides, settings.groups.get(group_key, []), row.overrides, settings.rows.get(row_key, [])
                ),
                row.reference or file.reference,
            )
            for group_key, group in file.groups.items()
            for row_key, row in file.rows.items()
            if any(study.has(group_key, row_key) for study in studies.values())
        )
        columns = {
            key: column
            for key, column in file.columns.items()
            if _shows(column, scale, with_data=with_data) and (study_of(column) is None or study_of(column) in studies)
        }
        sources = {column.source: column for column in columns.values() if isinstance(column, ReportedColumn)}
        reported = {source: load_reported(source) for source in sources}
        for column in columns.values():
            if isinstance(column, ReportedColumn):
                reported[column.source].value(column.value)
        return cls(
            name=name,
            scale=scale,
            title=file.title,
            caption=f"{file.caption} {settings.caption.replace('{corpus}', corpus)}",
            warning=settings.warning,
            lr_rule=settings.lr_rule,
            reference=file.reference,
            seeds=seeds,
            rows=rows,
            studies=studies,
            columns=columns,
            figure=file.figure,
            assumption=settings.plan,
            evaluation_limits=settings.evaluation_limits,
            reported=reported,
            rules=settings.learning_rates,
            text=text,
        )

    @property
    def figure_columns(self) -> dict[str, PanelColumn]:
        """The columns that have a panel in the figure, by key."""
        columns = {key: column for key, column in self.columns.items() if isinstance(column, PanelColumn)}
        return {key: column for key, column in columns.items() if column.figure}

    def score_tasks(self, study: str) -> dict[str, set[str]]:
        """By evaluation suite, the tasks whose scores columns show of a study's runs."""
        tasks: dict[str, set[str]] = {}
        for column in self.columns.values():
            if isinstance(column, ScoreColumn) and column.study == study:
                tasks.setdefault(column.suite, set()).add(column.task)
        return tasks

    def reported_value(self, column: ReportedColumn, row: Row) -> float | None:
        """What is reported of a row, where the column shows its group."""
        if column.groups is not None and row.group not in column.groups:
            return None
        return self.reported[column.source].value(column.value).rows.get(row.key)

    def without_columns(self, keys: Collection[str], why: str) -> TableSpec:
        """The table without these columns; its caption then names those that the scale shows with or without data."""
        columns = {key: column for key, column in self.columns.items() if key not in keys}
        missed = [self.columns[key].label for key in keys if _shows(self.columns[key], self.scale, with_data=False)]
        caption = f"{self.caption} {why}: {', '.join(missed)}." if missed else self.caption
        return replace(self, columns=columns, caption=caption)

    def with_studies(self, names: Sequence[str]) -> TableSpec:
        """The table of these studies alone, with their rows and columns; its caption says so.

        Raises:
            ConfigError: with every study that it does not have at its scale; where nothing is left to draw, or nothing
                that reads the local text it was loaded with.
        """
        wrong = [unknown_name("study", name, self.studies) for name in names if name not in self.studies]
        if wrong:
            raise ConfigError([f"studies: {problem}" for problem in wrong])
        studies = {key: study for key, study in self.studies.items() if key in names}
        if self.text is not None and not any(
            set(self.text.overrides) & set(study.overrides) for study in studies.values()
        ):
            raise ConfigError([f"text: has no effect on studies={','.join(names)}, which read none"])
        if len(studies) == len(self.studies):
            return self
        kept = replace(
            self,
            studies=studies,
            rows=tuple(row for row in self.rows if any(study.has(row.group, row.key) for study in studies.values())),
            columns={key: column for key, column in self.columns.items() if study_of(column) in (None, *studies)},
            rules={key: rule for key, rule in self.rules.items() if key in studies},
        )
        if not kept.figure_columns:
            raise ConfigError([f"studies={','.join(names)}: no column of theirs is drawn; add another"])
        left_out = ", ".join(study.label for key, study in self.studies.items() if key not in studies)
        return replace(kept, caption=f"{self.caption} Not in this table: {left_out}.")

    def runs(self) -> list[RunRequest]:
        """Every run of the table. Seed by seed, so that an unfinished table compares all rows."""
        return [
            RunRequest(
                merge_overrides(study.overrides, row.overrides, self._learning_rate(row, study), [f"seed={seed}"]),
                row.id,
                study.key,
                seed,
            )
            for seed in self.seeds
            for study in self.studies.values()
            for row in self.rows
            if study.has(row.group, row.key)
        ]

    def with_learning_rates(self, chosen: Mapping[tuple[str, str], float]) -> TableSpec:
        """The table with these learning rates, by row id and study."""
        return replace(self, learning_rates=dict(chosen))

    def _learning_rate(self, row: Row, study: Study) -> list[str]:
        chosen = self.learning_rates.get((row.id, study.key))
        return [] if chosen is None else [f"optim.lr={chosen:g}"]


def _shows(column: AnyColumn, scale: str, *, with_data: bool) -> bool:
    if with_data and isinstance(column, ScoreColumn) and scale in column.scales_with_data:
        return True
    return column.scales is None or scale in column.scales


def _reading(text: LocalText | None, overrides: Sequence[str]) -> tuple[str, ...]:
    """A study's overrides with local text for its corpus, where it has one."""
    if text is None:
        return tuple(overrides)
    replaced = [text.overrides if is_text(override) else [override] for override in overrides]
    return tuple(override for several in replaced for override in several)


def merge_overrides(*layers: Sequence[str]) -> tuple[str, ...]:
    """One override a key: a later layer replaces an earlier one's (Hydra refuses a group that is given twice)."""
    merged: dict[str, str] = {}
    for override in (override for layer in layers for override in layer):
        merged[override.partition("=")[0].strip()] = override
    return tuple(merged.values())
