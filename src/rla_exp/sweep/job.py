"""One run of a sweep, before and after."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

JobState = Literal["done", "skipped", "adopted", "failed", "interrupted"]

LOG_TAIL_LINES = 12
LOG_TAIL_BYTES = 16 * 1024


@dataclass(frozen=True, kw_only=True)
class Job:
    """A run to be: what trains it, the folder that it leads to, and the overrides that name it."""

    overrides: tuple[str, ...]
    """Command-line overrides, as `rla_exp.config.compose` takes them."""
    folder: Path
    """The run's folder; jobs of one folder are one run."""
    work: Callable[[], None]
    """What its process calls; picklable. It holds the composed configuration: files of conf/ that are edited while a
    sweep runs do not change the jobs that still wait."""
    device_type: Literal["cpu", "cuda"] = "cpu"
    """What it computes on; a CUDA job is given one of the visible devices."""
    threads: int = 1
    """CPU threads it uses."""
    retry_failed: bool = False
    """Try it again where an earlier sweep recorded a failure; its overrides say the same."""
    resolved: Mapping[str, Any] | None = field(default=None, compare=False, repr=False)
    """The run's whole configuration: a folder that holds another one is refused."""
    label: str = ""
    """What a display calls it; empty: the last two parts of the folder."""

    @property
    def name(self) -> str:
        return self.label or "/".join(self.folder.parts[-2:])


@dataclass(frozen=True, kw_only=True)
class JobOutcome:
    """What became of a job."""

    job: Job
    state: JobState
    """done: trained now. skipped: had a result before. adopted: another sweep trained it meanwhile. failed: ended by
    itself without a result, see `kept_failed`.
    interrupted: asked to stop; the same command goes on with it."""
    cause: str | None = None
    """Why it failed or stopped, in a line or two."""
    log_tail: str = ""
    """The last lines of the failed run's log.txt."""
    seconds: float = 0.0
    """Wall time of its process; 0 where none was started."""
    kept_failed: bool = False
    """Its folder records the failure: it is tried again only where that is asked for. The same command goes on with a
    failed run whose process was killed, or that failed for what the user can mend."""
    recorded: bool = False
    """It failed in another sweep and was not tried again."""
    diverged: bool = False
    """It failed because its loss or gradients stopped being finite: a finding, no fault."""

    @property
    def rerun_command(self) -> str:
        """The command that runs this job alone, again."""
        return rerun_command(self.job.overrides, retry_failed=self.kept_failed)


def rerun_command(overrides: Sequence[str], *, retry_failed: bool = False) -> str:
    """The shell command of one run, for the running Python."""
    python = Path(sys.executable)
    if python.is_relative_to(Path.cwd()):
        python = python.relative_to(Path.cwd())
    words = [str(python), "-m", "rla_exp.cli.train", *overrides]
    if retry_failed and "retry_failed=true" not in words:
        words.append("retry_failed=true")
    return shlex.join(words)


def log_tail(folder: Path) -> str:
    """The last lines of a run's log.txt, or nothing where there is none that can be read."""
    try:
        with (folder / "log.txt").open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - LOG_TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-LOG_TAIL_LINES:])
