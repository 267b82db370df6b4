"""An end by the clock: what is begun under it, and what becomes of the rest."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from rla_exp.runs import RunFolder
from rla_exp.sweep import Event, Job, Stopping, run_jobs
from rla_exp.sweep.time_limit import TimeLimit

MakeJob = Callable[..., Job]


def test_only_what_would_end_in_time_is_begun(make_job: MakeJob) -> None:
    job = make_job("a")
    for expected, has_room in ((None, True), (59.0, True), (61.0, False), (3600.0, True)):
        # half of two minutes is over; a job of an hour fits into no such limit and goes on from its checkpoint
        limit = TimeLimit(end=time.monotonic() + 60.5, seconds=120.0).expecting(lambda _, seconds=expected: seconds)
        assert limit.has_room_for(job) is has_room, expected
    assert not TimeLimit(end=time.monotonic(), seconds=120.0).has_room_for(job)


def test_running_jobs_are_interrupted_and_others_wait(make_job: MakeJob) -> None:
    jobs = [make_job("long", steps=1000, pause=0.02), make_job("short"), make_job("waiting"), make_job("too_long")]
    # the server that workers are forked from takes seconds to begin
    run_jobs([make_job("first")], num_workers=1)
    expected = {"too_long": 5.9, "waiting": 5.0}
    # the first two begin at once; for the others four seconds are no room, however early one of the first has ended
    limit = TimeLimit(end=time.monotonic() + 4.0, seconds=6.0).expecting(lambda job: expected.get(job.label))
    events: list[Event] = []
    outcomes = run_jobs(jobs, num_workers=2, on_event=events.append, limit=limit)
    assert [outcome.state for outcome in outcomes] == ["interrupted", "done", "interrupted", "interrupted"]
    assert [outcome.cause for outcome in outcomes[2:]] == ["not started: the time limit"] * 2
    assert [event.reason for event in events if isinstance(event, Stopping)] == ["time limit"]
    status = RunFolder(jobs[0].folder).read_status()
    assert status.state == "interrupted"
    assert int((jobs[0].folder / "checkpoint").read_text()) == status.step > 0
    assert RunFolder(jobs[2].folder).read_status().error == "not started when the sweep ended"
    # without a limit the same jobs go on
    assert [outcome.state for outcome in run_jobs(jobs[1:], num_workers=2)] == ["skipped", "done", "done"]


def test_a_job_behind_one_that_is_too_long_begins(make_job: MakeJob, tmp_path: Path) -> None:
    jobs = [make_job("too_long"), make_job("short")]
    expected = {"too_long": 50.0, "short": 1.0}
    limit = TimeLimit(end=time.monotonic() + 30, seconds=60).expecting(lambda job: expected[job.label])
    assert [outcome.state for outcome in run_jobs(jobs, num_workers=1, limit=limit)] == ["interrupted", "done"]
    assert not (tmp_path / "too_long" / "log.txt").exists()
