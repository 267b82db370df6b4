"""How far an evaluation is: a bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

Advance = Callable[[int], object]
"""Is told how many more requests are done."""
Progress = Callable[[str, int], AbstractContextManager[Advance]]
"""From what is asked, and the number of requests, to what shows how far they are."""

SECONDS_BETWEEN_REFRESHES = 0.25
SECONDS_BETWEEN_LINES = 30.0


@contextmanager
def unseen(_name: str, _total: int) -> Iterator[Advance]:
    """Show nothing."""
    yield lambda _: None


def shown_on(stream: TextIO) -> Progress:
    """Show it on a stream, whatever stderr is by then: lm-eval's own is silenced while it runs."""

    @contextmanager
    def progress(name: str, total: int) -> Iterator[Advance]:
        show = _on_terminal if stream.isatty() else _in_lines
        with show(stream, name, total) as advance:
            yield advance

    return progress


@contextmanager
def _on_terminal(stream: TextIO, name: str, total: int) -> Iterator[Advance]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    # drawn only when asked to: a drawing thread would compete; what lm-eval prints stays where it was sent
    bar = Bar(
        *columns,
        console=Console(file=stream),
        auto_refresh=False,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )
    shown = time.monotonic()
    with bar:
        task = bar.add_task(name, total=total)

        def advance(count: int) -> None:
            nonlocal shown
            bar.advance(task, count)
            if time.monotonic() - shown >= SECONDS_BETWEEN_REFRESHES:
                bar.refresh()
                shown = time.monotonic()

        yield advance


@contextmanager
def _in_lines(stream: TextIO, name: str, total: int) -> Iterator[Advance]:
    started = shown = time.monotonic()
    done = 0

    def advance(count: int) -> None:
        nonlocal done, shown
        done += count
        now = time.monotonic()
        if count and done < total and now - shown >= SECONDS_BETWEEN_LINES:
            left = timedelta(seconds=round((now - started) / done * (total - done)))
            stream.write(f"{name}: {done:,} of {total:,}, {left} left\n")
            stream.flush()
            shown = now

    yield advance
