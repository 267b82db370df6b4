"""`rla-table table=ablation scale=cpu`: train what a table lacks, then write it.

Finished runs are never trained again, so that the same command goes on after an interruption, and only writes the files
anew where the table is complete.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rla_exp.cli.evaluations import Wanted, evaluate_runs, followed_by_evaluation, offered_tasks, wanted_evaluations
from rla_exp.cli.hydra_settings import is_hydras
from rla_exp.cli.kernel_table import make_kernel_table
from rla_exp.cli.key_values import (
    Key,
    describe_keys,
    name_list,
    path_list,
    positive,
    read_key_values,
    seed_list,
    whole_number,
    yes_or_no,
)
from rla_exp.cli.launching import LOCAL, read_launch
from rla_exp.cli.outcome import exit_code
from rla_exp.cli.table_runs import Found, TableRuns, Trained
from rla_exp.errors import ConfigError, InterruptedRun, UserError
from rla_exp.report import RunRequest, Table, TableSpec, check_writable, collect, render_rich, table_names, write_table
from rla_exp.report.domains import with_domain_columns
from rla_exp.report.kernel_spec import is_kernel_table, load_kernel_spec
from rla_exp.report.learning_rate import Choice, choose_learning_rates, selection_runs, tie_runs
from rla_exp.report.local_text import LocalText
from rla_exp.report.outcome import absent_scores, lacking_scores, read_outcomes
from rla_exp.runs.files import expand_home
from rla_exp.sweep.recorded import is_finished
from rla_exp.sweep.time_limit import TimeLimit

ALL = "all"

KEYS = {
    "table": Key(str, "a file of conf/table, or all", "which table, or all of them in turn; default ablation"),
    "scale": Key(str, "a scale of that table, such as smoke, cpu, gpu or paper", "how large; default cpu"),
    "studies": Key(
        name_list, "distinct studies of that table, as in mqar,text", "these alone, with their columns; default all"
    ),
    "seeds": Key(seed_list, "distinct whole numbers from 0 on, as in 0,1,2", "instead of the scale's own seeds"),
    "jobs": Key(whole_number, "a whole number from 1 on", "runs at a time; default as many as fit on the machine"),
    "launcher": Key(
        str, "local or slurm", "where runs are trained and evaluated; default local. hydra.launcher.KEY=... sets it up"
    ),
    "minutes": Key(
        positive, "a number above 0", "stop after so long: what would not end in time is not begun, what runs is kept"
    ),
    "runs": Key(expand_home, "a folder", "where runs are kept; default runs"),
    "results": Key(expand_home, "a folder", "the table goes to <results>/<table>/<scale>; default results"),
    "text": Key(path_list, "files or globs, separated by commas", "what studies on text read instead of their corpora"),
    "test_text": Key(path_list, "files or globs, separated by commas", "with text: its test split, a domain a file"),
    "benchmarks": Key(expand_home, "a folder", "where kernel times are; default benchmarks"),
    "data_dir": Key(
        expand_home, "a folder", "evaluation suites read <data_dir>/<task>/<split>.jsonl instead of the hub"
    ),
    "mixed": Key(yes_or_no, "true or false", "show a table over different sources, devices or corpora; default false"),
    "retry_failed": Key(yes_or_no, "true or false", "train again what failed before; default false"),
    "train": Key(
        yes_or_no, "true or false", "false: only write the table, of runs that any machine has trained; default true"
    ),
    "corpus": Key(
        str.lower,
        "the first digits of its sha256",
        "with train=false: show the runs on one corpus where there are more",
    ),
}

HELP = f"""Train what a table lacks and write it. Run again it goes on where it stopped.

usage: rla-table [key=value ...]

{describe_keys(KEYS)}

Exit code 0: the table is complete; runs whose training diverged count as results. 1: runs failed, or a
setting, file or folder has to be mended. 130: interrupted, or out of time; no table was written, and the same command
goes on."""


@dataclass(frozen=True, kw_only=True)
class TableSettings:
    """The settings of the command; see KEYS."""

    table: str = "ablation"
    scale: str = "cpu"
    studies: tuple[str, ...] | None = None
    seeds: tuple[int, ...] | None = None
    jobs: int | None = None
    launcher: str = LOCAL
    hydras: tuple[str, ...] = ()
    """Settings of the launcher, as typed."""
    minutes: float | None = None
    runs: Path = Path("runs")
    results: Path = Path("results")
    text: tuple[str, ...] = ()
    test_text: tuple[str, ...] = ()
    benchmarks: Path = Path("benchmarks")
    data_dir: Path | None = None
    mixed: bool = False
    retry_failed: bool = False
    train: bool = True
    corpus: str | None = None

    def __post_init__(self) -> None:
        problems = []
        if self.test_text and not self.text:
            problems.append("test_text: has no effect without text")
        if self.corpus is not None and self.train:
            problems.append(f"corpus={self.corpus}: has no effect without train=false")
        if self.data_dir is not None and not self.data_dir.is_dir():
            problems.append(f"data_dir={self.data_dir}: there is no such folder")
        if self.launcher != LOCAL and self.minutes is not None:
            problems.append("minutes: has no effect on a cluster, whose jobs outlive the command; leave it out")
        training = {
            "jobs": self.jobs is not None,
            "minutes": self.minutes is not None,
            "launcher": self.launcher != LOCAL or bool(self.hydras),
            "data_dir": self.data_dir is not None,
            "retry_failed": self.retry_failed,
        }
        runs = {
            "studies": self.studies is not None,
            "seeds": self.seeds is not None,
            "text": bool(self.text),
            "mixed": self.mixed,
            "corpus": self.corpus is not None,
        }
        if self.studies is not None and self.table == ALL:
            problems.append("studies: has no effect on table=all, whose tables have different ones")
        if is_kernel_table(self.table):
            chosen, why = training | runs, f"on table={self.table}, which has times and no runs"
        else:
            chosen, why = {} if self.train else training, "with train=false"
        problems += [f"{key}: has no effect {why}" for key, is_set in chosen.items() if is_set]
        if problems:
            raise ConfigError(problems)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if {"-h", "--help", "help"} & set(arguments):
        print(HELP)
        return 0
    return exit_code(lambda: make_tables(read_settings(arguments)))


def read_settings(arguments: Sequence[str]) -> TableSettings:
    """What was typed.

    Raises:
        ConfigError: with every problem.
    """
    hydras = tuple(argument for argument in arguments if is_hydras(argument))
    values = read_key_values([argument for argument in arguments if argument not in hydras], KEYS)
    return TableSettings(**values, hydras=hydras)


def make_tables(settings: TableSettings) -> None:
    """Make the table, or all of them; one that fails does not stop the others.

    Raises:
        UserError: a table could not be made, or runs of it failed; for `all` once, after the last table.
        InterruptedRun: the sweep was asked to stop, or its time is over.
    """
    runs = _runs(settings)
    if settings.table != ALL:
        make_table(settings.table, settings, runs)
        return
    problems = []
    for name in table_names():
        print(f"== {name}", flush=True)
        try:
            # not with a table of their own: settings that one of them does not have are for the others
            make_table(name, settings, runs)
        except InterruptedRun:
            raise
        except UserError as error:
            print(error, file=sys.stderr)
            problems.append(f"{name}: {error}")
    if problems:
        raise UserError("\n".join([f"{len(problems)} tables have problems:", *(f"  - {text}" for text in problems)]))


def _runs(settings: TableSettings) -> TableRuns:
    if not settings.train:
        return Found(settings.runs, settings.corpus)
    launch = read_launch(settings.launcher, settings.hydras, jobs=settings.jobs, runs=settings.runs)
    return Trained(
        runs=settings.runs,
        launch=launch,
        retry_failed=settings.retry_failed,
        mixed=settings.mixed,
        limit=None if settings.minutes is None else TimeLimit.from_now(60 * settings.minutes),
    )


def make_table(name: str, settings: TableSettings, runs: TableRuns) -> None:
    """Train what the table `name` lacks, write it, print it.

    Raises:
        UserError: something cannot be used as it is, and nothing was started; or runs failed, and the table says so.
        InterruptedRun: the sweep was asked to stop; no table was written.
    """
    if is_kernel_table(name):
        kernels = load_kernel_spec(name, settings.scale)
        make_kernel_table(
            kernels,
            runs=settings.runs,
            results=settings.results,
            benchmarks=settings.benchmarks,
            measures=settings.train,
        )
        return
    text = LocalText(settings.text, settings.test_text) if settings.text else None
    # evaluated elsewhere, finished runs may have scores on files of that machine
    with_data = settings.data_dir is not None or not settings.train
    spec = TableSpec.load(name, settings.scale, settings.seeds, text=text, with_data=with_data)
    if settings.studies is not None:
        spec = spec.with_studies(settings.studies)
    # hours of training should not end at a folder that cannot be written
    folder = settings.results / spec.name / spec.scale
    check_writable(folder)
    choices = _choose_learning_rates(spec, runs)
    spec = spec.with_learning_rates({(choice.row, choice.study): choice.lr for choice in choices if choice.lr})
    requests = spec.runs()
    folders = runs.folders(requests)

    def collected(*, mixed: bool) -> Table:
        return collect(spec, folders, mixed=mixed, choices=choices)

    def wanted(trained: Trained) -> dict[RunRequest, Wanted]:
        return wanted_evaluations(spec, trained.jobs, offered, settings.data_dir)

    # of all tables some have no use for a data_dir
    offered = offered_tasks(spec, settings.data_dir, must_serve=settings.table != ALL) if settings.train else {}
    if isinstance(runs, Trained):
        runs.jobs |= {request: followed_by_evaluation(item) for request, item in wanted(runs).items()}
    # what cannot be compared is refused before the training, not after it
    collected(mixed=settings.mixed)
    problems = [runs.finish(requests, detail=lambda: render_rich(collected(mixed=True)))]
    if isinstance(runs, Trained):
        problems.append(_evaluate([item for item in wanted(runs).values() if is_finished(item.job.folder)], runs))
    outcomes = read_outcomes(spec, folders)
    if with_data:
        spec = spec.without_columns(absent_scores(spec, outcomes), "Not evaluated")
    if not settings.train:
        problems += lacking_scores(spec, outcomes)
    spec = with_domain_columns(spec, outcomes)
    write_table(collected(mixed=settings.mixed), folder)
    print()
    print((folder / "table.md").read_text(encoding="utf-8"))
    print("written:", *(str(path) for path in sorted(folder.iterdir())), sep="\n  ")
    told = [problem for problem in problems if problem is not None]
    if told:
        raise UserError("\n".join(told))


def _evaluate(wanted: Sequence[Wanted], runs: Trained) -> str | None:
    """Score runs on the suites that columns show, where that is not done yet; what failed, in words."""
    failed = evaluate_runs(wanted, runs.launch, limit=runs.limit)
    if not failed:
        return None
    return "\n".join([f"{len(failed)} runs could not be evaluated:", *(f"  - {text}" for text in failed)])


def _choose_learning_rates(spec: TableSpec, runs: TableRuns) -> list[Choice]:
    """Train the candidates that the table's rules name, and choose.

    Raises UserError where a candidate failed otherwise than by divergence.
    """

    def trained(requests: Sequence[RunRequest]) -> dict[RunRequest, Path]:
        folders = dict(runs.folders(requests)) if requests else {}
        if not all(request in folders and is_finished(folders[request]) for request in requests):
            print(f"choosing learning rates: {len(requests)} runs", flush=True)
            problem = runs.finish(requests)
            if problem is not None:
                raise UserError(problem)
        return folders

    folders = trained(selection_runs(spec))
    # near ties are known when the others are there
    folders |= trained(tie_runs(spec, folders))
    return choose_learning_rates(spec, folders)
