"""What a sweep shows while it runs, and what it says at the end."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.text import Text

from rla_exp.runs import RunFolder, RunState, Status
from rla_exp.sweep import JobElsewhere, JobEnded, JobOutcome, JobReleased, JobStarted, Stopping, Tick, display
from rla_exp.sweep import progress as progress_file
from rla_exp.sweep.display import LiveDisplay, PlainDisplay, duration, sweep_display
from rla_exp.sweep.progress import SweepProgress
from rla_exp.sweep.summary import summarize

MakeJob = Callable[..., object]


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True

    def frames(self) -> list[str]:
        """What was shown, each time anew, without colours."""
        pieces = re.split(r"(?:\x1b\[2K(?:\x1b\[1A)?|\r)+", self.getvalue())
        return [text for piece in pieces if (text := re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", piece)).strip()]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that stands until its entry is changed."""
    now = [100.0]
    for module in (display, progress_file):
        monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


def running(job: object, step: int, first_step: int | None = 0, state: RunState = "running") -> None:
    folder = RunFolder(job.folder)
    folder.create()
    folder.write_status(
        Status(state=state, step=step, max_steps=100, first_step=first_step, loss=0.5, tokens_per_s=12345.6)
    )


def test_progress_tells_the_time_left(make_job: MakeJob, clock: list[float]) -> None:
    jobs = [make_job(name) for name in "abcd"]
    progress = SweepProgress(4)
    assert progress.seconds_left([]) is None
    progress.note(JobEnded(JobOutcome(job=jobs[0], state="skipped")))
    progress.note(JobStarted(jobs[1]))
    assert progress.seconds_left(progress.running()) is None
    clock[0] += 40
    progress.note(JobEnded(JobOutcome(job=jobs[1], state="done", seconds=40)))
    progress.note(JobStarted(jobs[2]))
    # 40 seconds for one run, and two are left; what was skipped took no time
    assert progress.seconds_left(progress.running()) == 80
    running(jobs[2], 20)
    (entry,) = progress.running()
    assert (entry.share, entry.seconds_left) == (0.2, None)
    clock[0] += 10
    running(jobs[2], 40)
    (entry,) = progress.running()
    # 20 steps in the 10 seconds since its first status: 60 more take 30 seconds
    assert entry.seconds_left == 30
    assert progress.seconds_left([entry]) == pytest.approx(50 * 1.6 / 1.4)


def test_time_left_counts_from_where_a_run_was_taken_up(make_job: MakeJob, clock: list[float]) -> None:
    jobs = [make_job(name) for name in "abc"]
    progress = SweepProgress(3)
    running(jobs[0], 83, first_step=0, state="queued")
    progress.note(JobStarted(jobs[0]))
    # the process has begun and has not read its checkpoint
    running(jobs[0], 0, first_step=None)
    (entry,) = progress.running()
    assert (entry.share, entry.share_here, entry.seconds_left) == (0, 0, None)
    clock[0] += 5
    running(jobs[0], 80, first_step=80)
    (entry,) = progress.running()
    assert (entry.share, entry.share_here, entry.seconds_left) == (0.8, 0, None)
    assert progress.seconds_left([entry]) is None
    clock[0] += 20
    running(jobs[0], 95, first_step=80)
    (entry,) = progress.running()
    # 15 steps in 20 seconds
    assert (entry.share, entry.seconds_left) == (0.95, pytest.approx(20 * 5 / 15))
    assert entry.share_here == pytest.approx(0.15)
    # 0.15 runs took 25 seconds, and 2.05 are left; with the 80 steps before it would say 54 seconds
    assert progress.seconds_left([entry]) == pytest.approx(25 * 2.05 / 0.15)
    clock[0] += 5
    running(jobs[0], 100, first_step=80, state="done")
    progress.note(JobEnded(JobOutcome(job=jobs[0], state="done", seconds=30)))
    assert progress.seconds_left([]) == pytest.approx(30 * 2 / 0.2)
    # over before anybody looked, and gone on from step 50
    progress.note(JobStarted(jobs[1]))
    running(jobs[1], 100, first_step=50, state="done")
    clock[0] += 40
    progress.note(JobEnded(JobOutcome(job=jobs[1], state="done", seconds=40)))
    assert progress.seconds_left([]) == pytest.approx(70 * 1 / 0.7)


def test_what_another_sweep_did_before_is_not_counted(make_job: MakeJob, clock: list[float]) -> None:
    jobs = [make_job(name) for name in "ab"]
    progress = SweepProgress(2)
    running(jobs[0], 60, first_step=10)
    progress.note(JobElsewhere(jobs[0]))
    clock[0] += 10
    running(jobs[0], 80, first_step=10)
    (entry,) = progress.running()
    assert entry.share_here == pytest.approx(0.2)
    assert progress.seconds_left([entry]) == pytest.approx(10 * 1.2 / 0.2)


def test_plain_lines(make_job: MakeJob, clock: list[float]) -> None:
    jobs = [make_job(name) for name in "abc"]
    stream = io.StringIO()
    with sweep_display(3, stream=stream) as shown:
        assert isinstance(shown, PlainDisplay)
        shown(JobEnded(JobOutcome(job=jobs[0], state="skipped")))
        shown(JobStarted(jobs[1]))
        running(jobs[1], 25)
        shown(Tick((jobs[1],)))
        clock[0] += 30
        running(jobs[1], 50)
        shown(Tick((jobs[1],)))
        shown(JobEnded(JobOutcome(job=jobs[1], state="failed", cause="the reason", seconds=31)))
        shown(Stopping("SIGTERM", ()))
    assert stream.getvalue().splitlines() == [
        "[1/3] started b",
        "[1/3] about 1:30 left",
        "  b: step 50/100, loss 0.500, 12,346 tokens/s, ? left",
        "[2/3] failed b after 0:31: the reason",
        "SIGTERM: waiting for the checkpoints of 0 runs (again to stop at once)",
    ]


def test_what_another_sweep_trains_is_shown(make_job: MakeJob, clock: list[float]) -> None:
    jobs = [make_job(name) for name in "ab"]
    stream = io.StringIO()
    with sweep_display(2, stream=stream) as shown:
        shown(JobElsewhere(jobs[0]))
        shown(JobElsewhere(jobs[1]))
        running(jobs[0], 50)
        (first, second) = shown.progress.running()
        assert (first.elsewhere, first.step, second.elsewhere) == (True, 50, True)
        shown(JobReleased(jobs[1]))
        shown(JobEnded(JobOutcome(job=jobs[0], state="adopted", seconds=5)))
        assert shown.progress.running() == []
        shown(JobStarted(jobs[1]))
        (second,) = shown.progress.running()
        assert not second.elsewhere
    assert stream.getvalue().splitlines() == [
        "[0/2] another sweep trains a; its result is waited for",
        "[0/2] another sweep trains b; its result is waited for",
        "[0/2] b was left unfinished by the other sweep",
        "[1/2] adopted a after 0:05",
        "[1/2] started b",
    ]
    assert summarize(shown.progress.outcomes) == "1 runs: 1 trained by another sweep"


def test_live_display(make_job: MakeJob, clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    jobs = [make_job(name) for name in "abc"]
    stream, details = Terminal(), iter(["table with nothing", "table with one run"])
    with sweep_display(3, detail=lambda: Text(next(details)), stream=stream) as shown:
        assert isinstance(shown, LiveDisplay)
        assert "0 of 3 runs" in stream.getvalue()
        shown(JobStarted(jobs[0]))
        running(jobs[0], 25)
        shown(Tick((jobs[0],)))
        frame = stream.frames()
        for words in ("25/100", "0.500", "12,346", "table with nothing"):
            assert words in "\n".join(frame)
        shown(JobEnded(JobOutcome(job=jobs[0], state="failed", cause="the reason\nand more", seconds=3)))
    shown_at_last = stream.getvalue().rpartition("failed a: the reason")[2]
    assert "and more" not in stream.getvalue()
    assert "table with one run" in shown_at_last
    assert "1 failed" in stream.getvalue()


def test_summary_names_every_failure(make_job: MakeJob, tmp_path: Path) -> None:
    jobs = [make_job(name) for name in "abcd"]
    failed = JobOutcome(
        job=jobs[2],
        state="failed",
        cause="RuntimeError: two\nlines",
        log_tail="first\nlast",
        seconds=1,
        kept_failed=True,
    )
    outcomes = [
        JobOutcome(job=jobs[0], state="done", seconds=1),
        JobOutcome(job=jobs[1], state="skipped"),
        failed,
        failed,
        JobOutcome(job=jobs[3], state="interrupted", cause="not started"),
    ]
    lines = summarize(outcomes).splitlines()
    assert lines[:-2] == [
        "4 runs: 1 trained, 1 finished before, 1 failed, 1 interrupted",
        "FAILED c",
        "  cause:  RuntimeError: two",
        "          lines",
        f"  log:    {tmp_path / 'c' / 'log.txt'}, which ends",
        "    | first",
        "    | last",
    ]
    assert re.fullmatch(
        rf"  again:  \S*python\S* -m rla_exp.cli.train folder={tmp_path}/c retry_failed=true", lines[-2]
    )
    assert lines[-1] == "The same command goes on with the interrupted runs."


def test_durations() -> None:
    assert [duration(seconds) for seconds in (None, 7.4, 750, 3723)] == ["?", "0:07", "12:30", "1:02:03"]
