"""The one display of a sweep: live on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Protocol, Self, TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from rla_exp.sweep.events import Event, JobElsewhere, JobEnded, JobReleased, JobStarted, Stopping
from rla_exp.sweep.progress import RunningJob, SweepProgress

PLAIN_SECONDS = 30.0
SHOWN_FAILURES = 5
SHOWN_RUNNING = 16


class Display(Protocol):
    """Shows a sweep; a context manager that is called with every event."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def __call__(self, event: Event) -> None: ...


def sweep_display(
    total: int, *, detail: Callable[[], RenderableType] | None = None, stream: TextIO | None = None
) -> Display:
    """The display that fits the stream.

    Args:
        total: distinct runs of the sweep.
        detail: rendered below the runs on a terminal, anew whenever a job has ended (a table filling up).
        stream: where to show (default: standard output).
    """
    stream = stream or sys.stdout
    return LiveDisplay(total, detail, stream) if stream.isatty() else PlainDisplay(total, stream)


class PlainDisplay:
    """A line when a run starts or ends, and one about the running ones every 30 seconds."""

    def __init__(self, total: int, stream: TextIO) -> None:
        self.progress, self.stream = SweepProgress(total), stream
        self.last_report = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return

    def __call__(self, event: Event) -> None:
        progress = self.progress
        progress.note(event)
        place = f"[{len(progress.outcomes)}/{progress.total}]"
        match event:
            case JobStarted(job):
                self._say(f"{place} started {job.name}")
            case JobElsewhere(job):
                self._say(f"{place} another sweep trains {job.name}; its result is waited for")
            case JobReleased(job):
                self._say(f"{place} {job.name} was left unfinished by the other sweep")
            case JobEnded(outcome) if outcome.state != "skipped":
                cause = f": {outcome.cause}" if outcome.cause else ""
                self._say(f"{place} {outcome.state} {outcome.job.name} after {duration(outcome.seconds)}{cause}")
            case Stopping(reason):
                self._say(stopping_line(reason, len(event.running)))
        if time.monotonic() - self.last_report >= PLAIN_SECONDS:
            running = progress.running()
            self._say(f"{place} {overall_left(progress.seconds_left(running))}")
            for entry in running:
                self._say(f"  {entry.job.name}: {describe(entry)}")

    def _say(self, line: str) -> None:
        self.last_report = time.monotonic()
        self.stream.write(line + "\n")
        self.stream.flush()


class LiveDisplay:
    """Counts, running jobs and failures, redrawn in place."""

    def __init__(self, total: int, detail: Callable[[], RenderableType] | None, stream: TextIO) -> None:
        self.progress, self.detail = SweepProgress(total), detail
        # no refreshing thread: events come twice a second
        self.live = Live(console=Console(file=stream), auto_refresh=False, transient=True)
        self.shown_detail: RenderableType | None = None
        self.ended_at_detail = -1
        self.note: str | None = None

    def __enter__(self) -> Self:
        self.live.__enter__()
        self.live.update(self._render(), refresh=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.live.__exit__(kind, error, trace)

    def __call__(self, event: Event) -> None:
        self.progress.note(event)
        if isinstance(event, Stopping):
            self.note = stopping_line(event.reason, len(event.running))
        if isinstance(event, JobEnded) and event.outcome.seconds == 0:
            # hundreds of these may come at once, at the start
            return
        self.live.update(self._render(), refresh=True)

    def _render(self) -> RenderableType:
        progress, running = self.progress, self.progress.running()
        parts: list[RenderableType] = [self._counts(running), _running_table(running)]
        failures = [outcome for outcome in progress.outcomes if outcome.state == "failed"]
        parts += [
            Text(f"failed {outcome.job.name}: {first_line(outcome.cause)}", "red")
            for outcome in failures[-SHOWN_FAILURES:]
        ]
        if self.note:
            parts.append(Text(self.note, "yellow"))
        # last, for a terminal too low for all of it cuts the end off
        if self.detail is not None:
            if self.shown_detail is None or self.ended_at_detail != len(progress.outcomes):
                self.shown_detail, self.ended_at_detail = self.detail(), len(progress.outcomes)
            parts.append(self.shown_detail)
        return Group(*parts)

    def _counts(self, running: list[RunningJob]) -> RenderableType:
        progress = self.progress
        finished = sum(progress.count(state) for state in ("done", "skipped", "adopted"))
        line = Table.grid(padding=(0, 2))
        line.add_row(
            Text(f"{finished} of {progress.total} runs"),
            ProgressBar(progress.total, len(progress.outcomes) + sum(job.share for job in running), width=30),
            Text(f"{progress.count('failed')} failed", "red" if progress.count("failed") else "dim"),
            Text(overall_left(progress.seconds_left(running)), "cyan"),
        )
        return line


def _running_table(running: list[RunningJob]) -> RenderableType:
    table = Table(box=None, padding=(0, 2), header_style="dim")
    for title in ("running", "", "step", "loss", "tokens/s", "left"):
        table.add_column(title, justify="left" if title in ("running", "") else "right", no_wrap=True)
    for job in running[:SHOWN_RUNNING]:
        table.add_row(
            f"{job.job.name} (another sweep)" if job.elsewhere else job.job.name,
            ProgressBar(max(job.max_steps, 1), job.step, width=20),
            f"{job.step}/{job.max_steps}" if job.max_steps else "starting",
            f"{job.loss:.3f}" if job.loss is not None else "",
            f"{job.tokens_per_s:,.0f}" if job.tokens_per_s is not None else "",
            duration(job.seconds_left),
        )
    if len(running) > SHOWN_RUNNING:
        table.add_row(f"and {len(running) - SHOWN_RUNNING} more")
    return table


def describe(job: RunningJob) -> str:
    """A running job in a line."""
    if not job.max_steps:
        return "starting"
    parts = [f"step {job.step}/{job.max_steps}"]
    if job.loss is not None:
        parts.append(f"loss {job.loss:.3f}")
    if job.tokens_per_s is not None:
        parts.append(f"{job.tokens_per_s:,.0f} tokens/s")
    parts.append(f"{duration(job.seconds_left)} left")
    return ", ".join(parts)


def stopping_line(reason: str, running: int) -> str:
    """What a stopping sweep says."""
    return f"{reason}: waiting for the checkpoints of {running} runs (again to stop at once)"


def first_line(text: str | None) -> str:
    """The beginning of a cause that may go on for lines."""
    return (text or "").partition("\n")[0]


def overall_left(seconds: float | None) -> str:
    """How much longer the sweep takes, in words."""
    return "time left not known yet" if seconds is None else f"about {duration(seconds)} left"


def duration(seconds: float | None) -> str:
    """Seconds as 0:07, 12:30 or 1:02:03; a question mark where they are unknown."""
    if seconds is None:
        return "?"
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"
