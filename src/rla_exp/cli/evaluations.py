"""The evaluations that a table shows: suites on its finished runs, several runs at a time, each stored in its run."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from rla_exp.errors import ConfigError, UserError
from rla_exp.report import RunRequest, TableSpec
from rla_exp.runs.evaluations import Evaluation, read_evaluation
from rla_exp.sweep.devices import available_cores, visible_devices
from rla_exp.sweep.ending import Ending
from rla_exp.sweep.job import Job
from rla_exp.sweep.launch import Launch
from rla_exp.sweep.tasks import run_tasks
from rla_exp.sweep.time_limit import TimeLimit

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Wanted:
    """Suites on a run."""

    job: Job
    """That trained the run."""
    lacking: Mapping[str, frozenset[str]]
    """The tasks whose scores are not there yet, by suite."""
    limits: Mapping[str, int]
    """Documents of each task, by suite; not named: all."""
    data_dir: Path | None


Offered = Mapping[str, Mapping[str, str]]
"""Tasks that can be had, each with the documents that it would be scored on now (`TaskScores.data`) by entry; of tasks
that read no local files nothing is said."""


def offered_tasks(spec: TableSpec, data_dir: Path | None, *, must_serve: bool) -> dict[str, Offered]:
    """By suite that the table shows, the tasks that can be had. Reads the files of data_dir once, for all runs.

    Args:
        must_serve: refuse a data_dir that has no task of the table.

    Raises:
        ConfigError: data_dir has no task that the table shows.
        DataError: a file in data_dir is missing or damaged.
    """
    suites: dict[str, set[str]] = {}
    for study in spec.studies:
        for suite, tasks in spec.score_tasks(study).items():
            suites.setdefault(suite, set()).update(tasks)
    offered = {suite: _offered(suite, tasks, data_dir) for suite, tasks in suites.items()}
    is_of_use = any(documents for tasks in offered.values() for documents in tasks.values())
    if must_serve and data_dir is not None and not is_of_use:
        shown = sorted({task for tasks in suites.values() for task in tasks})
        raise ConfigError(
            [
                f"data_dir={data_dir}: has no effect on table {spec.name} at scale {spec.scale}; "
                + (f"of {', '.join(shown)} none that reads files has a folder in it" if shown else "it shows no scores")
            ]
        )
    return offered


def wanted_evaluations(
    spec: TableSpec, jobs: Mapping[RunRequest, Job], offered: Mapping[str, Offered], data_dir: Path | None
) -> dict[RunRequest, Wanted]:
    """The suites that runs lack, with those tasks that columns show and that are offered (`offered_tasks`).

    A task that is stored with other documents than those of data_dir now counts as lacking; evaluating it says so.
    """
    wanted = {}
    for request in spec.runs():
        job = jobs[request]
        lacking = {
            suite: frozenset(_lacking(offered[suite], names, read_evaluation(job.folder, suite)))
            for suite, names in spec.score_tasks(request.study).items()
        }
        lacking = {suite: names for suite, names in lacking.items() if names}
        if lacking:
            wanted[request] = Wanted(job, lacking, spec.evaluation_limits, data_dir)
    return wanted


def _offered(suite: str, tasks: Collection[str], data_dir: Path | None) -> Offered:
    if data_dir is None:
        return {task: {} for task in tasks}
    # imported here, for lm-eval takes seconds
    from rla_exp.eval.lm_eval_tasks import is_offered, open_tasks, reads_files, stored_entries
    from rla_exp.eval.suite import LmEvalSuite, load_suite, narrowed

    if not isinstance(load_suite(suite), LmEvalSuite):
        return {task: {} for task in tasks}
    there = sorted(task for task in tasks if is_offered(task, data_dir))
    reading = [task for task in there if reads_files([task])]
    if not reading:
        return {task: {} for task in there}
    narrow = narrowed(load_suite(suite), reading)
    assert isinstance(narrow, LmEvalSuite)
    with open_tasks(reading, narrow, data_dir) as source:
        found = {task: {entry: of.data for entry, of in stored_entries(task, source).items()} for task in reading}
    return {task: found.get(task, {}) for task in there}


def _lacking(offered: Offered, names: Collection[str], stored: Evaluation | None) -> Iterator[str]:
    data = {} if stored is None else {entry: scores.data for entry, scores in stored.tasks.items()}
    for task in names & offered.keys():
        documents = offered[task]
        if not (documents.items() <= data.items() if documents else task in data):
            yield task


def evaluate_runs(wanted: Sequence[Wanted], launch: Launch, *, limit: TimeLimit | None = None) -> list[str]:
    """Run suites whose scores are not there yet, and say what could not be evaluated, a line each.

    Tasks that a run has stored are not run again, so that the same call goes on after an interruption. A GPU evaluates
    one run at a time, for batches fill it; a CPU as many as there are cores, with one thread each.

    Raises:
        InterruptedRun: a signal or the time limit came.
    """
    # imported here, for it needs torch, which takes seconds
    from rla_exp.eval.suite import load_suite

    for suite in dict.fromkeys(suite for item in wanted for suite in item.lacking):
        load_suite(suite)
    if not wanted:
        return []
    print(f"evaluating: {len(wanted)} runs", flush=True)
    problems: list[str] = []
    done = 0

    def tell(job: Job, ending: Ending) -> None:
        nonlocal done
        done += 1
        print(f"[{done}/{len(wanted)}] {ending.state} {job.name}", flush=True)
        if ending.state != "done":
            problems.append(f"{job.name}: {ending.cause}")

    jobs = [_evaluation(item) for item in wanted]
    run_tasks(
        jobs, num_workers=_num_workers(jobs, launch), on_end=tell, start_workers=launch.start_workers, limit=limit
    )
    return problems


def _num_workers(jobs: Sequence[Job], launch: Launch) -> int:
    if launch.has_gpu is not None:
        assert launch.num_workers is not None
        return launch.num_workers
    return len(visible_devices(jobs)) or launch.num_workers or available_cores()


def _evaluation(wanted: Wanted) -> Job:
    """The job that evaluates a run: on the kind of device that trained it."""
    job = wanted.job
    return Job(
        overrides=job.overrides,
        folder=job.folder,
        work=_work(wanted),
        device_type=job.device_type,
        label=f"{job.name} {' '.join(wanted.lacking)}",
    )


def followed_by_evaluation(wanted: Wanted) -> Job:
    """The job that trains a run, and goes on to its suites while the model is at hand: checkpoints may not be kept."""
    return replace(wanted.job, work=partial(_train_then_evaluate, wanted.job.work, _work(wanted)))


def _work(wanted: Wanted) -> Callable[[], None]:
    job = wanted.job
    on_gpu = job.device_type == "cuda"
    return partial(_evaluate, job.folder, wanted.lacking, wanted.limits, wanted.data_dir, on_gpu=on_gpu)


def _train_then_evaluate(train: Callable[[], None], evaluate: Callable[[], None]) -> None:
    train()
    try:
        evaluate()
    except Exception:
        # the run is finished all the same; the table evaluates it again after the sweep, and tells
        logger.exception("the run is trained, its evaluation failed")


def _evaluate(
    folder: Path,
    lacking: Mapping[str, frozenset[str]],
    limits: Mapping[str, int],
    data_dir: Path | None,
    *,
    on_gpu: bool,
) -> None:
    import torch

    from rla_exp.eval.evaluate import EvaluationSettings, evaluate_run
    from rla_exp.eval.lm_eval_tasks import reads_files
    from rla_exp.eval.restore import load_run
    from rla_exp.eval.suite import LmEvalSuite, load_suite, narrowed

    if not on_gpu:
        torch.set_num_threads(1)
    run = load_run(folder, device="cuda" if on_gpu else "cpu")
    problems = []
    for name, tasks in lacking.items():
        suite = narrowed(load_suite(name), tasks)
        # others make their documents
        files = data_dir if isinstance(suite, LmEvalSuite) and reads_files(suite.tasks) else None
        try:
            evaluate_run(run, name, suite, EvaluationSettings(limit=limits.get(name), data_dir=files))
        except UserError as error:
            # a suite without its data does not stop the others
            problems.append(f"{name}: {error}")
    if problems:
        raise UserError("\n".join(problems))
