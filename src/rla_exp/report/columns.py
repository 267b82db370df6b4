"""The kinds of columns that a table may have: what each shows of the runs, and how."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from rla_exp.report.number import check_format


class Section(BaseModel):
    """A section of the file: unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


Format = Annotated[str, AfterValidator(check_format)]
Direction = Literal["max", "min"]


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
    direction: Direction | None = None
    """Which way is better; null: neither, so that no cell is marked."""
    chosen_by: str | None = Field(default=None, pattern="^valid/")
    """The key that best cells are chosen by; null: the metric's own under valid/."""
    format: Format
    limits: tuple[float, float] | None = None
    """Ends of the figure's axis."""
    figure: bool = False
    """Whether the figure has a panel for it."""


class ScoreColumn(ColumnFile):
    """A number of an evaluation suite, from the run's evaluations/<suite>.json, summarized over seeds."""

    kind: Literal["score"]
    study: str
    suite: str
    metric: str
    """<task>/<metric>, as the evaluation's file has them."""
    scales_with_data: list[str] = Field(default_factory=list)
    """Further scales that show the column where local files offer its task."""
    direction: Direction | None = None
    format: Format
    limits: tuple[float, float] | None = None
    figure: bool = False

    @property
    def key(self) -> str:
        """How a run's scores name it."""
        return f"eval/{self.suite}/{self.metric}"

    @property
    def task(self) -> str:
        """The task of the suite."""
        return self.metric.partition("/")[0]


class TraceColumn(ColumnFile):
    """A diagnostic over training, from metrics.jsonl: one number a run. A diverged run has one too, up to its end."""

    kind: Literal["trace"]
    study: str
    metric: str
    """A key of metrics.jsonl; * stands for the number of a layer."""
    layers: Literal["max", "mean"] = "max"
    """How the layers of one step are put together."""
    steps: Literal["max", "mean", "last"] = "max"
    """How the steps are put together."""
    format: Format
    limits: tuple[float, float] | None = None
    figure: bool = False
    log: bool = False
    """Whether the figure's axis is logarithmic."""


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


class LearningRateColumn(ColumnFile):
    """The learning rate that a row's runs have, chosen or given."""

    kind: Literal["learning_rate"]
    study: str


class ReportedColumn(ColumnFile):
    """A number that somebody else reports, from conf/reported/<source>.yaml: never compared with ours or marked."""

    kind: Literal["reported"]
    source: str
    value: str
    groups: list[str] | None = None
    """Groups whose rows the numbers stand beside; null: all."""
    format: Format


class LearnedColumn(ColumnFile):
    """How many seeds ended with `metric` above a threshold; a failed seed has not learned."""

    kind: Literal["learned"]
    study: str
    metric: str
    above: float


class DivergedColumn(ColumnFile):
    """How many of a row's runs of a study diverged: a loss or gradient was not finite."""

    kind: Literal["diverged"]
    study: str


class FailedColumn(ColumnFile):
    """How many of a row's runs failed, over all studies."""

    kind: Literal["failed"]


PanelColumn = MetricColumn | ScoreColumn | TraceColumn
"""What a figure can have a panel for."""
ComparedColumn = MetricColumn | ScoreColumn
"""What can be better or worse."""
CountColumn = LearnedColumn | DivergedColumn | FailedColumn
"""What counts runs."""

AnyColumn = Annotated[
    MetricColumn
    | ScoreColumn
    | TraceColumn
    | ConstantColumn
    | TimingColumn
    | LearningRateColumn
    | ReportedColumn
    | LearnedColumn
    | DivergedColumn
    | FailedColumn,
    Field(discriminator="kind"),
]


def study_of(column: AnyColumn) -> str | None:
    """The study whose runs a column shows; None where it is all of them, or none."""
    return None if isinstance(column, FailedColumn | ReportedColumn) else column.study


def selection_metric(column: MetricColumn) -> str:
    """The key that best cells are chosen by: never one of the test split."""
    if column.chosen_by is not None:
        return column.chosen_by
    return "valid/" + column.metric.removeprefix("test/") if column.metric.startswith("test/") else column.metric
