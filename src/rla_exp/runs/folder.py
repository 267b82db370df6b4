"""A run's folder: runs/<experiment>/<model>-<ablation>-<data>-<hash8>/seed<k>/.

config.yaml        the resolved configuration
environment.json   versions, hardware, commit, overrides
status.json        how it is doing
metrics.jsonl      one line a logged step
result.json        written last: a run that has one is finished
checkpoints/       last.ckpt and the one before
tokenizer/         tokenizer.json, where text is not read as bytes
log.txt            what it said
cluster_job.json   the job that a cluster was given it as
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from rla_exp.config.run_identity import hash8
from rla_exp.config.schema import RunConfig
from rla_exp.errors import RunError
from rla_exp.runs.environment import all_starts, describe_environment
from rla_exp.runs.files import expand_home, read_json, write_atomically, write_json
from rla_exp.runs.lock import is_locked, lock
from rla_exp.runs.log import log_to
from rla_exp.runs.metrics import append_metrics, drop_metrics_after, read_metrics
from rla_exp.runs.result import Result, read_result, write_result
from rla_exp.runs.status import Status

CONFIG_FILE = "config.yaml"
ENVIRONMENT_FILE = "environment.json"
STATUS_FILE = "status.json"
CLUSTER_JOB_FILE = "cluster_job.json"
CHECKPOINT_FOLDER = "checkpoints"
# of libyaml, where it is there: as safe, and ten times as fast over hundreds of runs
SAFE_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
TOKENIZER_FOLDER = "tokenizer"


def run_name(config: RunConfig) -> str:
    """Model, ablation and data preset, as in "rdn-no_clip-mqar"."""
    return re.sub(r"[^\w.-]", "_", f"{config.model.name}-{config.ablation}-{config.data.name}")


@dataclass(frozen=True)
class RunFolder:
    """Reads and writes the files of one run; every write is atomic or appends a whole line."""

    path: Path

    @classmethod
    def of(cls, config: RunConfig, identity: str) -> RunFolder:
        """The folder that a configuration with this identity (64 hex digits) leads to; it need not exist."""
        study = expand_home(config.paths.runs) / config.experiment
        return cls(study / f"{run_name(config)}-{hash8(identity)}" / f"seed{config.seed}")

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.path / CHECKPOINT_FOLDER

    @property
    def tokenizer(self) -> Path:
        """Folder of the tokenizer of a text run; bytes need none."""
        return self.path / TOKENIZER_FOLDER

    def create(self) -> None:
        """Make the folder and the one for checkpoints.

        Raises:
            RunError: the place cannot be written.
        """
        try:
            self.checkpoints.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(
                f"cannot make {self.checkpoints}: {error.strerror or error}; "
                "set paths.runs (of rla-table: runs) to a folder that can be written"
            ) from error

    def lock(self) -> AbstractContextManager[None]:
        """Hold the run, so that nobody else trains it; RunError where somebody does."""
        return lock(self.path)

    def is_locked(self) -> bool:
        """Whether a process trains this run now."""
        return is_locked(self.path)

    def log(self) -> AbstractContextManager[None]:
        """Let log.txt take what the package's loggers say."""
        return log_to(self.path)

    def read_config(self) -> dict[str, Any] | None:
        """The resolved configuration the run was started with; None before its first start."""
        file = self.path / CONFIG_FILE
        try:
            content = yaml.load(file.read_text(encoding="utf-8"), Loader=SAFE_LOADER)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise RunError(f"cannot read {file}: {error}; delete the run's folder to start over") from error
        if not isinstance(content, dict):
            raise RunError(f"{file} does not hold a configuration; delete the run's folder to start over")
        return content

    def write_config(self, resolved: Mapping[str, Any]) -> None:
        """Store the resolved configuration."""
        write_atomically(self.path / CONFIG_FILE, yaml.safe_dump(dict(resolved), sort_keys=False, allow_unicode=True))

    def read_environment(self) -> dict[str, Any] | None:
        """What the run last started on."""
        return read_json(self.path / ENVIRONMENT_FILE)

    def write_environment(self, overrides: Sequence[str], device_type: str, *, resumes: bool) -> list[str]:
        """Describe where the run starts now; the starts it goes on from are kept under "earlier", oldest first.

        Returns:
            the sources' hashes of all these starts, each once.

        Raises:
            RunError: what the earlier starts left does not tell their sources; nothing is written.
        """
        before = self.read_environment() if resumes else None
        environment = describe_environment(overrides, device_type)
        if before is not None:
            environment["earlier"] = [*before.pop("earlier", []), before]
        starts = all_starts(environment)
        if not all(isinstance(start, dict) and "sources" in start for start in starts):
            raise RunError(
                f"{self.path / ENVIRONMENT_FILE} does not tell the sources of every earlier start; "
                "delete the run's folder to start over"
            )
        write_json(self.path / ENVIRONMENT_FILE, environment)
        return list(dict.fromkeys(str(start["sources"]) for start in starts))

    def add_to_environment(self, name: str, content: Sequence[Any]) -> None:
        """Set an entry of what `write_environment` wrote: what is known only once the run is under way."""
        write_json(self.path / ENVIRONMENT_FILE, {**(self.read_environment() or {}), name: list(content)})

    def read_status(self) -> Status | None:
        """How the run is doing; None before its first start."""
        file = self.path / STATUS_FILE
        content = read_json(file)
        try:
            return None if content is None else Status.from_json(content)
        except ValueError as error:
            raise RunError(f"{file}: {error}; delete the file, the run goes on without it") from error

    def write_status(self, status: Status) -> None:
        """Replace status.json."""
        write_json(self.path / STATUS_FILE, status.to_json(), durable=status.state not in ("queued", "running"))

    def read_result(self) -> Result | None:
        """The numbers of a finished run; None while it is not."""
        return read_result(self.path)

    def write_result(self, result: Result) -> None:
        """Finish the run."""
        write_result(self.path, result)

    def append_metrics(self, step: int, metrics: Mapping[str, float]) -> None:
        """Add a line to metrics.jsonl."""
        append_metrics(self.path, step, metrics)

    def read_metrics(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl."""
        return read_metrics(self.path)

    def drop_metrics_after(self, step: int) -> None:
        """Remove the lines of later steps, which a resumed run writes again."""
        drop_metrics_after(self.path, step)
