"""The runs below a folder, read as they are: whatever cannot be read is told, and never ends the reading."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from rla_exp.errors import RunError
from rla_exp.runs import Result, RunFolder, Status
from rla_exp.runs.evaluations import Score, read_scores
from rla_exp.runs.folder import CLUSTER_JOB_FILE, CONFIG_FILE, STATUS_FILE
from rla_exp.runs.log import LOG_FILE
from rla_exp.runs.metrics import METRICS_FILE
from rla_exp.runs.result import RESULT_FILE

State = Literal["queued", "running", "died", "interrupted", "failed", "done", "unknown"]
"""`died`: status.json says running and nobody holds the run's lock. `interrupted` is also a run that waits for a sweep
of this machine that is gone. `unknown`: there is no readable status."""

FILES = (CONFIG_FILE, STATUS_FILE, RESULT_FILE, METRICS_FILE)
"""A folder `seed<k>` with one of these is a run's."""
HEADLINES = ("test/accuracy", "test/bits_per_byte", "test/perplexity", "test/loss")
"""What stands for a whole result: the first that is there."""
TAIL_BYTES = 16_384
Content = TypeVar("Content")


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """One run as its folder tells it."""

    folder: Path
    key: str
    """The folder's path below the runs folder, with slashes: <experiment>/<name>-<hash8>/seed<k>."""
    state: State
    status: Status | None
    config: dict[str, Any]
    config_text: str
    """config.yaml as it stands."""
    environment: dict[str, Any]
    result: Result | None
    scores: Mapping[str, Score]
    """Of its evaluations, by eval/<suite>/<task>/<metric>."""
    rows: list[dict[str, Any]]
    """The lines of metrics.jsonl."""
    log_tail: str
    problems: list[str] = field(default_factory=list)
    """What could not be read, and how to mend it."""

    @property
    def group(self) -> str:
        """The key without the seed: runs that differ in the seed alone share it."""
        return self.key.rpartition("/")[0]

    @property
    def experiment(self) -> str:
        """The study, as its folder is called."""
        return self.group.rpartition("/")[0]

    @property
    def seed(self) -> str:
        """The seed, as the folder's name has it."""
        return self.folder.name.removeprefix("seed")

    @property
    def headline(self) -> tuple[str, float] | None:
        """Name and value of the number that tells most about a finished run; None before."""
        metrics = self.result.metrics if self.result else {}
        return next(((key, metrics[key]) for key in HEADLINES if key in metrics), None)

    def setting(self, dotted: str) -> Any:
        """A value of the configuration, as in "optim.lr"; None where there is none."""
        value: Any = self.config
        for part in dotted.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        return value


def read_records(runs: Path) -> list[RunRecord]:
    """Every run below the folder `runs`, in the order of their keys (seeds as numbers)."""
    folders = {
        path
        for path in runs.rglob("seed*")
        if path.name[4:].isdecimal() and any((path / name).is_file() for name in FILES)
    }
    ordered = sorted(folders, key=lambda path: (path.parent.as_posix(), int(path.name[4:])))
    return [read_record(path, path.relative_to(runs).as_posix()) for path in ordered]


def read_record(path: Path, key: str) -> RunRecord:
    """The run in the folder `path`."""
    folder = RunFolder(path)
    problems: list[str] = []

    def attempt(read: Any, otherwise: Content) -> Content:
        try:
            content: Content | None = read()
        except RunError as error:
            problems.append(str(error))
            return otherwise
        return otherwise if content is None else content

    nothing: dict[str, Any] = {}
    no_scores: Mapping[str, Score] = {}
    no_rows: list[dict[str, Any]] = []
    no_status: Status | None = None
    no_result: Result | None = None
    status = attempt(folder.read_status, no_status)
    result = attempt(folder.read_result, no_result)
    return RunRecord(
        folder=path,
        key=key,
        state=_state(folder, status, result),
        status=status,
        config=attempt(folder.read_config, nothing),
        config_text=_tail(path / CONFIG_FILE, problems),
        environment=attempt(folder.read_environment, nothing),
        result=result,
        scores=attempt(lambda: read_scores(path), no_scores),
        rows=attempt(folder.read_metrics, no_rows),
        log_tail=_tail(path / LOG_FILE, problems),
        problems=problems,
    )


def _state(folder: RunFolder, status: Status | None, result: Result | None) -> State:
    if result is not None:
        return "done"
    if status is None:
        return "unknown"
    if status.state == "running" and not folder.is_locked():
        return "died"
    if status.state == "queued" and status.is_writer_gone() and not folder.is_locked():
        # what a cluster has in its queue outlives the sweep that submitted it
        return "queued" if (folder.path / CLUSTER_JOB_FILE).exists() else "interrupted"
    return status.state


def _tail(file: Path, problems: list[str]) -> str:
    """The last lines of a file that may be long; nothing where there is none."""
    try:
        with file.open("rb") as stream:
            size = stream.seek(0, 2)
            stream.seek(max(0, size - TAIL_BYTES))
            text = stream.read().decode("utf-8", errors="replace")
    except FileNotFoundError:
        return ""
    except OSError as error:
        problems.append(f"cannot read {file}: {error.strerror or error}")
        return ""
    # the first line may be cut
    return text if size <= TAIL_BYTES else text.partition("\n")[2]
