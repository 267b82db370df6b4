"""`rla-plan table=ablation scale=gpu`: what a table would cost. Nothing is trained, fetched or written."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rla_exp.cli.kernel_table import SECONDS_A_TIME, num_times
from rla_exp.cli.key_values import Key, describe_keys, name_list, path_list, read_key_values, seed_list, whole_number
from rla_exp.cli.outcome import exit_code
from rla_exp.config import Composed
from rla_exp.config.schema import RunConfig
from rla_exp.errors import ConfigError
from rla_exp.report import RunRequest, TableSpec, table_names
from rla_exp.report.cost import vocab_size
from rla_exp.report.kernel_spec import CpuTimes, KernelSpec, is_kernel_table, load_kernel_spec
from rla_exp.report.learning_rate import choose_learning_rates, selection_runs, tie_runs
from rla_exp.report.local_text import LocalText
from rla_exp.report.plan import PlannedRun, describe_plan, format_hours, is_known, plan_studies
from rla_exp.runs.by_config import RunsByConfig
from rla_exp.runs.files import expand_home
from rla_exp.runs.result import read_result
from rla_exp.sweep.plan import compose_runs

ALL = "all"

KEYS = {
    "table": Key(str, "a file of conf/table, or all", "which table; default ablation"),
    "scale": Key(str, "a scale of that table, such as smoke, cpu, gpu or paper", "how large; default cpu"),
    "studies": Key(name_list, "distinct studies of that table, as in mqar,text", "these alone; default all"),
    "seeds": Key(seed_list, "distinct whole numbers from 0 on, as in 0,1,2", "instead of the scale's own seeds"),
    "jobs": Key(whole_number, "a whole number from 1 on", "runs at a time; default as the table assumes"),
    "text": Key(path_list, "files or globs, separated by commas", "what studies on text read instead of their corpora"),
    "test_text": Key(path_list, "files or globs, separated by commas", "with text: its test split, a domain a file"),
    "runs": Key(expand_home, "a folder", "where finished runs are looked for; default runs"),
}

HELP = f"""Say what a table would cost, before anything starts.

usage: rla-plan [key=value ...]

{describe_keys(KEYS)}

Runs, tokens, parameters, memory and hours, and how each is known. Finished runs count as done, and tell the rate of the
others. Exit code 0: said. 1: a setting has to be mended."""


@dataclass(frozen=True, kw_only=True)
class PlanSettings:
    """The settings of the command; see KEYS."""

    table: str = "ablation"
    scale: str = "cpu"
    studies: tuple[str, ...] | None = None
    seeds: tuple[int, ...] | None = None
    jobs: int | None = None
    text: tuple[str, ...] = ()
    test_text: tuple[str, ...] = ()
    runs: Path = Path("runs")

    def __post_init__(self) -> None:
        problems = []
        if self.test_text and not self.text:
            problems.append(f"test_text={','.join(self.test_text)}: has no effect without text; set text too")
        if self.studies is not None and self.table == ALL:
            problems.append(f"studies={','.join(self.studies)}: has no effect with table=all; name one table")
        if is_kernel_table(self.table):
            given = {
                "studies": self.studies and ",".join(self.studies),
                "seeds": self.seeds and ",".join(map(str, self.seeds)),
                "jobs": self.jobs,
                "text": ",".join(self.text),
                "test_text": self.text and ",".join(self.test_text),
                "runs": self.runs != Path("runs") and self.runs,
            }
            reason = f"has no effect with table={self.table}, which trains nothing; allowed there: table, scale"
            problems += [f"{key}={value}: {reason}" for key, value in given.items() if value]
        if problems:
            raise ConfigError(problems)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if {"-h", "--help", "help"} & set(arguments):
        print(HELP)
        return 0
    return exit_code(lambda: print_plan(PlanSettings(**read_key_values(arguments, KEYS))))


def print_plan(settings: PlanSettings) -> None:
    """Print the plan of the table, or of all of them.

    Raises:
        ConfigError: a setting or a table cannot be.
    """
    names = table_names() if settings.table == ALL else [settings.table]
    plans = [_plan(name, settings) for name in names]
    print("\n\n".join(plans))


def _plan(table: str, settings: PlanSettings) -> str:
    if is_kernel_table(table):
        return _plan_kernels(load_kernel_spec(table, settings.scale))
    text = LocalText(settings.text, settings.test_text) if settings.text else None
    spec = TableSpec.load(table, settings.scale, settings.seeds, text=text)
    if settings.studies is not None:
        spec = spec.with_studies(settings.studies)
    finished = _Finished(settings.runs)
    sizes = _Sizes()

    def planned(requests: Sequence[RunRequest]) -> list[PlannedRun]:
        composed = compose_runs([request.overrides for request in requests])
        return [
            finished.look_up(request, run, *sizes.of(run.config))
            for request, run in zip(requests, composed, strict=True)
        ]

    selection = planned(selection_runs(spec))
    folders = {run.request: run.folder for run in selection if run.folder is not None}
    ties = planned(tie_runs(spec, folders))
    selection += ties
    folders |= {run.request: run.folder for run in ties if run.folder is not None}
    choices = choose_learning_rates(spec, folders)
    spec = spec.with_learning_rates({(choice.row, choice.study): choice.lr for choice in choices if choice.lr})
    runs = planned(spec.runs())
    studies = plan_studies(spec, runs, selection)
    return describe_plan(spec, studies, all(is_known(run.config) for run in runs), settings.jobs)


def _plan_kernels(spec: KernelSpec) -> str:
    times = spec.at_scale.times
    head = f"{spec.file.title}\ntable {spec.name}, scale {spec.scale}\n\n"
    if not isinstance(times, CpuTimes):
        return f"{head}no runs: the times are those of benchmarks/, which `make bench` takes on a GPU"
    count = num_times(spec, times)
    # a warm-up and two repeats may exceed the limit at the longest lengths
    longest = format_hours(count * SECONDS_A_TIME / 3600)
    each = f"up to {SECONDS_A_TIME:g} s each, {longest} at most"
    return f"{head}no runs: {count} times of CPU backends on one thread, {each}"


class _Sizes:
    """Parameters of models, each built once, without storage."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[int, int]] = {}

    def of(self, config: RunConfig) -> tuple[int, int]:
        """All parameters, and those that multiply every token."""
        # imported here, for it needs torch, which takes seconds
        import torch

        from rla_exp.models import build_model

        size = vocab_size(config)[0]
        key = repr((config.model, size))
        if key not in self._known:
            with torch.device("meta"):
                model = build_model(config.model, size)
            every = sum(parameter.numel() for parameter in model.parameters())
            looked_up = 0 if config.model.tie_embeddings else model.embedding.weight.numel()
            self._known[key] = (every, every - looked_up)
        return self._known[key]


class _Finished:
    """The finished runs below a folder, by their configuration: the device that they need may not be here."""

    def __init__(self, runs: Path) -> None:
        self._runs = RunsByConfig(runs)

    def look_up(self, request: RunRequest, run: Composed, parameters: int, matrix_parameters: int) -> PlannedRun:
        """The run with what is known of it."""
        results = {folder: read_result(folder) for folder in self._runs.find(run.resolved)}
        folder, result = next(((path, found) for path, found in results.items() if found is not None), (None, None))
        timing = {} if result is None else result.timing
        return PlannedRun(
            request=request,
            config=run.config,
            parameters=parameters,
            matrix_parameters=matrix_parameters,
            folder=folder,
            tokens_per_s=timing.get("tokens_per_s"),
            peak_mib=timing.get("peak_mib"),
        )


if __name__ == "__main__":
    sys.exit(main())
