"""`rla-table table=ablation scale=cpu`: train what a table lacks, then write it.

Finished runs are never trained again, so that the same command goes on after an interruption, and only writes the files
anew where the table is complete.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rla_exp.cli.evaluations import Wanted, evaluate_runs
from rla_exp.cli.kernel_table import make_kernel_table
from rla_exp.cli.key_values import Key, describe_keys, read_key_values, seed_list, whole_number, yes_or_no
from rla_exp.cli.outcome import exit_code
from rla_exp.errors import InterruptedRun, UserError
from rla_exp.report import (
    MixedRunsError,
    RunRequest,
    Table,
    TableSpec,
    check_writable,
    collect,
    render_rich,
    table_names,
    write_table,
)
from rla_exp.report.kernel_spec import is_kernel_table, load_kernel_spec
from rla_exp.report.learning_rate import Choice, choose_learning_rates, selection_runs
from rla_exp.report.outcome import Outcome
from rla_exp.runs import sources_hash
from rla_exp.runs.evaluations import read_scores
from rla_exp.runs.files import expand_home
from rla_exp.sweep.job import Job, JobOutcome
from rla_exp.sweep.plan import compose_runs, plan_jobs
from rla_exp.sweep.recorded import is_finished
from rla_exp.sweep.run import run_sweep

ALL = "all"

KEYS = {
    "table": Key(str, "a file of conf/table, or all", "which table, or all of them in turn; default ablation"),
    "scale": Key(str, "a scale of that table, such as smoke, cpu, gpu or paper", "how large; default cpu"),
    "seeds": Key(seed_list, "distinct whole numbers from 0 on, as in 0,1,2", "instead of the scale's own seeds"),
    "jobs": Key(whole_number, "a whole number from 1 on", "runs at a time; default as many as fit on the machine"),
    "runs": Key(expand_home, "a folder", "where runs are kept; default runs"),
    "results": Key(expand_home, "a folder", "the table goes to <results>/<table>/<scale>; default results"),
    "benchmarks": Key(expand_home, "a folder", "where kernel times are; default benchmarks"),
    "data_dir": Key(
        expand_home, "a folder", "evaluation suites read <data_dir>/<task>/<split>.jsonl instead of the hub"
    ),
    "mixed": Key(yes_or_no, "true or false", "show a table over different sources, devices or corpora; default false"),
    "retry_failed": Key(yes_or_no, "true or false", "train again what failed before; default false"),
}

HELP = f"""Train what a table lacks and write it. Run again it goes on where it stopped.

usage: rla-table [key=value ...]

{describe_keys(KEYS)}

Exit code 0: the table is complete; runs whose training diverged count as results. 1: runs failed, or a
setting, file or folder has to be mended. 130: interrupted; no table was written, and the same command goes on."""


@dataclass(frozen=True, kw_only=True)
class TableSettings:
    """The settings of the command; see KEYS."""

    table: str = "ablation"
    scale: str = "cpu"
    seeds: tuple[int, ...] | None = None
    jobs: int | None = None
    runs: Path = Path("runs")
    results: Path = Path("results")
    benchmarks: Path = Path("benchmarks")
    data_dir: Path | None = None
    mixed: bool = False
    retry_failed: bool = False


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if {"-h", "--help", "help"} & set(arguments):
        print(HELP)
        return 0
    return exit_code(lambda: make_tables(TableSettings(**read_key_values(arguments, KEYS))))


def make_tables(settings: TableSettings) -> None:
    """Make the table, or all of them; one that fails does not stop the others.

    Raises:
        UserError: a table could not be made, or runs of it failed; for `all` once, after the last table.
        InterruptedRun: the sweep was asked to stop.
    """
    if settings.table != ALL:
        make_table(settings)
        return
    problems = []
    for name in table_names():
        print(f"== {name}", flush=True)
        try:
            make_table(replace(settings, table=name))
        except InterruptedRun:
            raise
        except UserError as error:
            print(error, file=sys.stderr)
            problems.append(f"{name}: {error}")
    if problems:
        raise UserError("\n".join([f"{len(problems)} tables have problems:", *(f"  - {text}" for text in problems)]))


def make_table(settings: TableSettings) -> None:
    """Train what is missing, write the table, print it.

    Raises:
        UserError: something cannot be used as it is, and nothing was started; or runs failed, and the table says so.
        InterruptedRun: the sweep was asked to stop; no table was written.
    """
    if is_kernel_table(settings.table):
        kernels = load_kernel_spec(settings.table, settings.scale)
        make_kernel_table(kernels, runs=settings.runs, results=settings.results, benchmarks=settings.benchmarks)
        return
    spec = TableSpec.load(settings.table, settings.scale, settings.seeds)
    # hours of training should not end at a folder that cannot be written
    folder = settings.results / spec.name / spec.scale
    check_writable(folder)
    choices = _choose_learning_rates(spec, settings)
    spec = spec.with_learning_rates({(choice.row, choice.study): choice.lr for choice in choices if choice.lr})
    requests = spec.runs()
    jobs = _plan(requests, settings)
    folders = {request: job.folder for request, job in zip(requests, jobs, strict=True)}

    def collected(*, mixed: bool) -> Table:
        return collect(spec, folders, mixed=mixed, choices=choices)

    before = collected(mixed=settings.mixed)
    if not settings.mixed:
        _refuse_changed_sources(before.outcomes, jobs)
    outcomes = run_sweep(jobs, num_workers=settings.jobs, detail=lambda: render_rich(collected(mixed=True)))
    _refuse_interrupted(outcomes)
    problems = _evaluate(spec, folders, settings, on_gpu=any(job.device_type == "cuda" for job in jobs))
    write_table(collected(mixed=settings.mixed), folder)
    print()
    print((folder / "table.md").read_text(encoding="utf-8"))
    print("written:", *(str(path) for path in sorted(folder.iterdir())), sep="\n  ")
    _report_failures(outcomes)
    if problems:
        raise UserError("\n".join([f"{len(problems)} evaluations failed:", *(f"  - {text}" for text in problems)]))


def _evaluate(
    spec: TableSpec, folders: Mapping[RunRequest, Path], settings: TableSettings, *, on_gpu: bool
) -> list[str]:
    """Score finished runs on the suites that columns show; what failed, a line each."""
    wanted = []
    for request in spec.runs():
        folder = folders[request]
        keys = spec.score_keys(request.study)
        if keys and is_finished(folder):
            lacking = [suite for suite, names in keys.items() if not names <= read_scores(folder).keys()]
            wanted += [Wanted(folder, suite, spec.evaluation_limit, settings.data_dir) for suite in lacking]
    return evaluate_runs(wanted, num_workers=settings.jobs, on_gpu=on_gpu)


def _choose_learning_rates(spec: TableSpec, settings: TableSettings) -> list[Choice]:
    """Train the candidates that the table's rules name, and choose.

    Raises UserError where a candidate failed otherwise than by divergence, or every candidate of a row diverged.
    """
    requests = selection_runs(spec)
    if not requests:
        return []
    jobs = _plan(requests, settings)
    folders = {request: job.folder for request, job in zip(requests, jobs, strict=True)}
    if not settings.mixed:
        runs = [run for choice in choose_learning_rates(spec, folders) for run in choice.runs]
        _refuse_changed_sources(runs, jobs)
    if not all(is_finished(job.folder) for job in jobs):
        print(f"choosing learning rates: {len(jobs)} runs", flush=True)
        outcomes = run_sweep(jobs, num_workers=settings.jobs)
        _refuse_interrupted(outcomes)
        _report_failures(outcomes)
    choices = choose_learning_rates(spec, folders)
    hopeless = [f"{choice.row} {choice.study}" for choice in choices if choice.lr is None]
    if hopeless:
        raise UserError(
            f"no learning rate can be chosen where every candidate diverged: {', '.join(hopeless)}; "
            f"give smaller candidates in conf/table/{spec.name}.yaml"
        )
    return choices


def _plan(requests: Sequence[RunRequest], settings: TableSettings) -> list[Job]:
    extra = [f"paths.runs={_quoted(str(settings.runs))}"]
    if settings.retry_failed:
        extra.append("retry_failed=true")
    runs = compose_runs([[*request.overrides, *extra] for request in requests])
    return plan_jobs(runs, [request.label for request in requests])


def _quoted(text: str) -> str:
    """Text as a value in an override, whatever characters it has."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _refuse_changed_sources(runs: Sequence[Outcome], jobs: Sequence[Job]) -> None:
    """Say before the training, not after it, that new runs would not compare with those that are there."""
    stale = [run for run in runs if run.state == "done" and run.provenance.get("sources") != sources_hash()]
    if not stale or all(is_finished(job.folder) for job in jobs):
        return
    raise MixedRunsError(
        f"{len(stale)} finished runs of this table were computed by other sources than those here now, and the missing "
        f"ones would not compare with them:\n"
        + "\n".join(f"  - {run.folder}" for run in stale)
        + "\nRemove these runs' folders, go back to their sources, or pass mixed=true to put all in one table."
    )


def _refuse_interrupted(outcomes: Sequence[JobOutcome]) -> None:
    if any(outcome.state == "interrupted" for outcome in outcomes):
        raise InterruptedRun("the table is not complete and was not written; the same command goes on")


def _report_failures(outcomes: Sequence[JobOutcome]) -> None:
    """Note runs that diverged, a result that the table counts; raise for those that failed otherwise."""
    failed = [outcome for outcome in outcomes if outcome.state == "failed"]
    diverged = sum(outcome.diverged for outcome in failed)
    if diverged:
        print(f"note: {diverged} runs diverged; the table counts them as failed")
    if len(failed) > diverged:
        raise UserError(
            f"{len(failed) - diverged} runs failed for other reasons than divergence; they are listed above"
        )
