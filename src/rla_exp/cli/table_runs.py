"""The runs of a table: trained where they are missing, or found among those that were trained elsewhere."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from rich.console import RenderableType

from rla_exp.config import Composed
from rla_exp.config.overrides import quoted
from rla_exp.errors import InterruptedRun, RunError
from rla_exp.report import MixedRunsError, RunRequest
from rla_exp.report.outcome import Outcome, read_outcome
from rla_exp.runs import RunFolder, sources_hash
from rla_exp.runs.by_config import RunsByConfig
from rla_exp.runs.evaluations import evaluation_seconds
from rla_exp.runs.result import read_result
from rla_exp.sweep.job import Job, JobOutcome
from rla_exp.sweep.launch import Launch
from rla_exp.sweep.plan import compose_runs, plan_jobs
from rla_exp.sweep.recorded import is_finished, read_status
from rla_exp.sweep.run import run_sweep
from rla_exp.sweep.time_limit import TimeLimit

MOST_NAMED = 8

Folders = Mapping[RunRequest, Path]
Detail = Callable[[], RenderableType]


class TableRuns(Protocol):
    """Where a table's runs come from."""

    def folders(self, requests: Sequence[RunRequest]) -> Folders:
        """The folders of runs; of those that cannot be known nothing."""

    def finish(self, requests: Sequence[RunRequest], *, detail: Detail | None = None) -> str | None:
        """See to it that every run has ended; returns what is to be mended, for runs that failed are shown too.

        Raises:
            InterruptedRun: runs are left that could have been trained.
        """


@dataclass
class Trained:
    """Runs that are trained where they are missing."""

    runs: Path
    launch: Launch
    retry_failed: bool
    mixed: bool
    """Train although finished runs come from other sources."""
    limit: TimeLimit | None
    jobs: dict[RunRequest, Job] = field(default_factory=dict)

    def folders(self, requests: Sequence[RunRequest]) -> Folders:
        """The folders, from the runs' identities; nothing is made there."""
        new = [request for request in requests if request not in self.jobs]
        extra = [f"paths.runs={quoted(str(self.runs))}", *(["retry_failed=true"] if self.retry_failed else [])]
        composed = compose_runs([[*request.overrides, *extra] for request in new])
        jobs = plan_jobs(composed, [request.label for request in new], has_gpu=self.launch.has_gpu)
        self.jobs |= dict(zip(new, jobs, strict=True))
        return {request: self.jobs[request].folder for request in requests}

    def finish(self, requests: Sequence[RunRequest], *, detail: Detail | None = None) -> str | None:
        """Train what is missing.

        Raises:
            MixedRunsError: finished runs come from other sources than those that the missing ones would have.
            InterruptedRun: by a signal or the time limit.
        """
        folders = self.folders(requests)
        jobs = [self.jobs[request] for request in requests]
        if not self.mixed:
            _refuse_changed_sources([read_outcome(request, folders[request]) for request in requests], jobs)
        limit = None if self.limit is None else self.limit.expecting(ExpectedSeconds(self.jobs))
        outcomes = run_sweep(
            jobs,
            num_workers=self.launch.num_workers,
            detail=detail,
            start_workers=self.launch.start_workers,
            limit=limit,
        )
        return _report(outcomes)


@dataclass(frozen=True)
class Found:
    """Runs that are only looked for, by their configuration, wherever and on whatever corpus they were trained."""

    runs: Path
    corpus: str | None
    """The first digits of the sha256 of the corpus; None: whatever is there."""

    def folders(self, requests: Sequence[RunRequest]) -> Folders:
        """The folders that are there.

        Raises:
            RunError: one run is there several times, on different corpora or devices.
        """
        known = RunsByConfig(self.runs)
        found: dict[RunRequest, Path] = {}
        problems = []
        composed = compose_runs([request.overrides for request in requests])
        for request, run in zip(requests, composed, strict=True):
            ended = [folder for folder in self._of_corpus(known, run) if _has_ended(folder)]
            if len(ended) > 1:
                problems.append(f"  - {request.label}: {', '.join(_describe(folder) for folder in ended)}")
            elif ended:
                found[request] = ended[0]
        if problems:
            raise RunError(
                f"{len(problems)} runs are there several times, and a table shows each once:\n"
                + "\n".join(problems)
                + "\nPass corpus=DIGITS to take those of one corpus, or move the others away."
            )
        return found

    def finish(self, requests: Sequence[RunRequest], *, detail: Detail | None = None) -> str | None:  # noqa: ARG002
        """Nothing is trained."""
        found = self.folders(requests)
        missing = [request.label for request in requests if request not in found]
        if not missing:
            return None
        names = ", ".join(missing[:MOST_NAMED]) + (", ..." if len(missing) > MOST_NAMED else "")
        return f"{len(missing)} of {len(requests)} runs are not below {self.runs}: {names}"

    def _of_corpus(self, known: RunsByConfig, run: Composed) -> list[Path]:
        folders = known.find(run.resolved)
        if self.corpus is None or run.config.data.kind != "text":
            return folders
        # a failed run does not tell its corpus
        return [folder for folder in folders if (_corpus(folder) or "").startswith(self.corpus)]


class ExpectedSeconds:
    """How long jobs will take, by the finished runs: those of the same row and study, else those of the study."""

    def __init__(self, jobs: Mapping[RunRequest, Job]) -> None:
        self._requests = {job: request for request, job in jobs.items()}
        self._per_step: dict[Job, float] = {}
        self._read = -math.inf

    def __call__(self, job: Job) -> float | None:
        """Seconds that are left of the job; None where no run of its study is finished."""
        self._read_finished()
        of, steps = self._requests[job], _steps(job)
        study = {job: rate for job, rate in self._per_step.items() if self._requests[job].study == of.study}
        row = [rate for other, rate in study.items() if self._requests[other].row == of.row]
        rates = row or list(study.values())
        if not rates or not steps:
            return None
        status = read_status(job.folder)
        done = 0 if status is None else status.step
        return statistics.median(rates) * (steps - done)

    def _read_finished(self) -> None:
        # asked for every waiting job, twice a second
        if time.monotonic() - self._read < 1.0:
            return
        self._read = time.monotonic()
        for job in self._requests:
            steps = _steps(job)
            if job not in self._per_step and steps and is_finished(job.folder):
                result = read_result(job.folder)
                if result is not None and "seconds" in result.timing:
                    self._per_step[job] = (result.timing["seconds"] + evaluation_seconds(job.folder)) / steps


def _steps(job: Job) -> int:
    return 0 if job.resolved is None else int(job.resolved["trainer"]["max_steps"])


def _has_ended(folder: Path) -> bool:
    status = read_status(folder)
    return is_finished(folder) or (status is not None and status.state == "failed")


def _corpus(folder: Path) -> str | None:
    result = read_result(folder)
    return None if result is None else result.provenance.get("corpus_sha256")


def _describe(folder: Path) -> str:
    result = RunFolder(folder).read_result()
    name = "/".join(folder.parts[-3:])
    if result is None:
        return f"{name} (failed)"
    corpus = result.provenance.get("corpus_sha256")
    return f"{name} ({result.provenance.get('device')}{f', corpus {corpus[:12]}' if corpus else ''})"


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


def _report(outcomes: Sequence[JobOutcome]) -> str | None:
    """Note runs that diverged, a result that the table counts; say how many failed otherwise."""
    left = sum(outcome.state == "interrupted" for outcome in outcomes)
    if left:
        raise InterruptedRun(
            f"{left} of {len(outcomes)} runs are left; the table was not written, and the same command goes on"
        )
    failed = [outcome for outcome in outcomes if outcome.state == "failed"]
    diverged = sum(outcome.diverged for outcome in failed)
    if diverged:
        print(f"note: {diverged} runs diverged; the table counts them as failed")
    if len(failed) == diverged:
        return None
    return f"{len(failed) - diverged} runs failed for other reasons than divergence; they are listed above"
