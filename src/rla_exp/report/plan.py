"""What a table would cost before it starts: runs, tokens, parameters, memory, hours, and how each is known."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rla_exp.config.schema import RunConfig
from rla_exp.report.cost import train_flops, train_memory, train_tokens, vocab_size
from rla_exp.report.number import format_number
from rla_exp.report.spec import RunRequest, TableSpec

GPU_GIB = {"H100": 80.0}
"""Memory of the GPUs that tables assume, by a word of the machine that they name."""


@dataclass(frozen=True)
class PlannedRun:
    """A run that the table needs."""

    request: RunRequest
    config: RunConfig
    parameters: int
    matrix_parameters: int
    """Those that multiply every token: without the rows of an embedding that is not the head too."""
    folder: Path | None
    """Where it is, once it is finished."""
    tokens_per_s: float | None
    """Measured in this run, where it is finished."""
    peak_mib: float | None


@dataclass(frozen=True)
class PlannedStudy:
    """A study's runs together: what is asked for, and what is still to do."""

    name: str
    num_runs: int
    num_to_do: int
    parameters: tuple[int, int]
    """Fewest and most."""
    tokens_a_run: int
    tokens_to_do: int
    memory_mib: float
    memory_is_measured: bool
    hours: float | None
    """Of all that is to do, one job after the other; None where neither a rate is measured nor one assumed."""
    rate: str
    """Where the hours come from."""


def plan_studies(spec: TableSpec, runs: Sequence[PlannedRun], selection: Sequence[PlannedRun]) -> list[PlannedStudy]:
    """Every study, and the choice of its learning rates where it has one."""
    planned = []
    for study in spec.studies.values():
        for name, members in ((study.label, runs), (f"{study.label}: choice of learning rates", selection)):
            own = [run for run in members if run.request.study == study.key]
            if own:
                # what the study's other runs have shown holds for the choice too
                measured = [run for run in (*runs, *selection) if run.request.study == study.key]
                planned.append(_plan_study(spec, name, own, measured))
    return planned


def _plan_study(spec: TableSpec, name: str, runs: Sequence[PlannedRun], measured: Sequence[PlannedRun]) -> PlannedStudy:
    to_do = [run for run in runs if run.folder is None]
    peaks = [run.peak_mib for run in measured if run.peak_mib is not None]
    estimates = [train_memory(run.config, run.parameters) / 2**20 for run in runs]
    hours, rate = _hours(spec, to_do, measured)
    return PlannedStudy(
        name=name,
        num_runs=len(runs),
        num_to_do=len(to_do),
        parameters=(min(run.parameters for run in runs), max(run.parameters for run in runs)),
        tokens_a_run=max(train_tokens(run.config) for run in runs),
        tokens_to_do=sum(train_tokens(run.config) for run in to_do),
        memory_mib=max(peaks) if peaks else max(estimates),
        memory_is_measured=bool(peaks),
        hours=hours,
        rate=rate,
    )


def _hours(spec: TableSpec, to_do: Sequence[PlannedRun], measured: Sequence[PlannedRun]) -> tuple[float | None, str]:
    """Hours of one job after the other. Finished runs of the same row tell its rate, else those of the study."""
    overhead = spec.assumption.seconds_a_run if spec.assumption else 0.0
    by_row: dict[str, list[float]] = {}
    for run in measured:
        if run.tokens_per_s is not None:
            by_row.setdefault(run.request.row, []).append(run.tokens_per_s)
    if by_row:
        overall = statistics.median(rate for rates in by_row.values() for rate in rates)
        rates = {row: statistics.median(found) for row, found in by_row.items()}
        seconds = sum(train_tokens(run.config) / rates.get(run.request.row, overall) + overhead for run in to_do)
        return seconds / 3600, f"measured: {format_number(overall, 'si')} tokens/s in finished runs"
    if spec.assumption is None:
        return None, "unknown: no run is finished, and the table assumes no rate"
    flops = sum(train_flops(run.config, run.matrix_parameters) for run in to_do)
    return (
        flops / spec.assumption.flops_per_s + overhead * len(to_do)
    ) / 3600, f"assumed: {spec.assumption.flops_per_s:.1e} FLOP/s"


def describe_plan(spec: TableSpec, studies: Sequence[PlannedStudy], vocabulary_is_known: bool, jobs: int | None) -> str:
    """The plan as text."""
    lines = [f"{spec.title}", f"table {spec.name}, scale {spec.scale}, seeds {', '.join(map(str, spec.seeds))}", ""]
    for study in studies:
        low, high = (format_number(number, "si") for number in study.parameters)
        memory = format_number(study.memory_mib * 2**20, "bytes")
        tokens = format_number(study.tokens_a_run, "si")
        hours = "unknown" if study.hours is None else format_hours(study.hours)
        lines += [
            study.name,
            f"  runs        {study.num_runs}, {study.num_to_do} to do",
            f"  parameters  {low if low == high else f'{low} to {high}'} a model",
            f"  tokens      {tokens} a run, {format_number(study.tokens_to_do, 'si')} to do",
            f"  memory      {memory} a job ({'measured' if study.memory_is_measured else 'estimated'})",
            f"  time        {hours} one job at a time ({study.rate})",
        ]
    jobs = jobs or (spec.assumption.jobs if spec.assumption else 1)
    known = [study.hours for study in studies if study.hours is not None]
    total = math.fsum(known) / jobs
    runs, to_do = (sum(getattr(study, name) for study in studies) for name in ("num_runs", "num_to_do"))
    tokens = format_number(sum(study.tokens_to_do for study in studies), "si")
    lines += [
        "",
        f"in all: {runs} runs, {to_do} to do, {tokens} tokens, about {format_hours(total)} with {jobs} jobs at a time",
    ]
    if len(known) < len(studies):
        lines.append("studies of unknown time are not in that sum")
    lines += memory_warnings(spec, studies)
    lines += ["", *_method(spec, vocabulary_is_known)]
    return "\n".join(lines)


def memory_warnings(spec: TableSpec, studies: Sequence[PlannedStudy]) -> list[str]:
    """A line for every study with a job that the GPU of the assumed machine has no memory for."""
    machine = spec.assumption.machine if spec.assumption else ""
    gpu = next((name for name in GPU_GIB if name in machine), None)
    if gpu is None:
        return []
    return [
        f"warning: {study.name}: {format_number(study.memory_mib * 2**20, 'bytes')} a job is more than the "
        f"{GPU_GIB[gpu]:g} GiB of one {gpu}; in conf/table/{spec.name}.yaml, scale {spec.scale}, make data.batch_size "
        "smaller and trainer.accumulate larger by the same factor, so that a step keeps its tokens"
        for study in studies
        if study.memory_mib > 1024 * GPU_GIB[gpu]
    ]


def _method(spec: TableSpec, vocabulary_is_known: bool) -> list[str]:
    said = [
        "Time: where no run is finished, 3 x (2 x parameters that multiply a token + the operator's own) operations a "
        "token at the assumed rate; the first finished runs replace it by their tokens/s. Diagnostics and evaluation "
        "suites come on top. Memory, where not measured: 16 bytes a parameter, kept activations and logits.",
    ]
    if spec.assumption is not None:
        overhead = f"{spec.assumption.seconds_a_run:g} s a run for its start, validation and test"
        said.append(f"Assumed: {spec.assumption.machine}; {overhead}.")
    suites = sorted({suite for study in spec.studies for suite in spec.score_tasks(study)})
    if suites:
        said.append(f"Evaluation suites: {', '.join(suites)}; their time is not estimated.")
    if not vocabulary_is_known:
        said.append("The vocabulary of a tokenizer that is not here is taken to have 50,257 entries.")
    return said


def format_hours(hours: float) -> str:
    """12 s, 34 min, 5.6 h, 78 days."""
    if hours < 1 / 60:
        return f"{hours * 3600:.0f} s"
    if hours < 1:
        return f"{hours * 60:.0f} min"
    return f"{hours:.1f} h" if hours < 72 else f"{hours / 24:.0f} days"


def is_known(config: RunConfig) -> bool:
    """Whether the model's vocabulary is known without its tokenizer."""
    return vocab_size(config)[1]
