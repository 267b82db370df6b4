"""run_jobs: what it runs, skips, retries, and how it lives with jobs that fail or die."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from rla_exp.errors import RunError
from rla_exp.runs import RunFolder, Status
from rla_exp.sweep import Event, Job, JobEnded, JobStarted, Stopping, Tick, processes, run_jobs

MakeJob = Callable[..., Job]


def result_of(job: Job) -> dict:
    return json.loads((job.folder / "result.json").read_text())


def test_every_job_has_a_process_of_its_own(make_job: MakeJob) -> None:
    jobs = [make_job(name) for name in "abc"]
    events: list[Event] = []
    outcomes = run_jobs(jobs, num_workers=2, on_event=events.append)
    assert [outcome.job for outcome in outcomes] == jobs
    assert [outcome.state for outcome in outcomes] == ["done"] * 3
    seen = [result_of(job)["provenance"] for job in jobs]
    assert len({run["pid"] for run in seen} | {os.getpid()}) == 4
    assert [event.job for event in events if isinstance(event, JobStarted)] == jobs
    assert {event.outcome.job for event in events if isinstance(event, JobEnded)} == set(jobs)
    assert max(len(event.running) for event in events if isinstance(event, Tick)) <= 2
    # its words are in its log, where the terminal does not see them
    assert (jobs[0].folder / "log.txt").read_text() == "begins at step 0\n"


def test_workers_come_from_a_server_that_only_imported(make_job: MakeJob, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    job = make_job("a")
    run_jobs([job], num_workers=1)
    seen = result_of(job)["provenance"]
    assert seen["modules"] == ["lightning", "rla_exp.lit.fit", "torch"]
    assert seen["server_threads"] == 1
    assert (seen["threads"], seen["gpu_touched"]) == ("1", False)


def test_finished_runs_start_no_process(make_job: MakeJob) -> None:
    job = make_job("a")
    job.folder.mkdir()
    (job.folder / "result.json").write_text("{}")
    events: list[Event] = []
    (outcome,) = run_jobs([job], num_workers=1, on_event=events.append)
    assert outcome.state == "skipped"
    assert events == [JobEnded(outcome)]
    assert not (job.folder / "log.txt").exists()


def test_jobs_of_one_folder_are_one_run(make_job: MakeJob) -> None:
    first, second = make_job("a"), make_job("a", steps=3)
    events: list[Event] = []
    outcomes = run_jobs([first, second], num_workers=2, on_event=events.append)
    assert [event.job for event in events if isinstance(event, JobStarted)] == [first]
    assert outcomes[0] is outcomes[1]


def test_failures_do_not_stop_the_others(make_job: MakeJob) -> None:
    endings = {"raise": "RuntimeError: the reason", "leave": "exit code 3", "nothing": "no result.json"}
    jobs = [make_job(do, do=do) for do in endings] + [make_job("fine")]
    outcomes = run_jobs(jobs, num_workers=2)
    assert [outcome.state for outcome in outcomes] == ["failed"] * 3 + ["done"]
    for outcome, cause in zip(outcomes, endings.values(), strict=False):
        assert cause in outcome.cause
    assert outcomes[0].log_tail.splitlines()[0] == "begins at step 0"
    assert outcomes[0].log_tail.splitlines()[-1] == "RuntimeError: the reason"
    assert f"folder={jobs[0].folder} do=raise retry_failed=true" in outcomes[0].rerun_command


def test_a_killed_job_is_noticed_and_goes_on_next_time(make_job: MakeJob) -> None:
    killed, fine = make_job("killed", do="die", steps=3), make_job("fine")
    outcomes = run_jobs([killed, fine], num_workers=1)
    assert [outcome.state for outcome in outcomes] == ["failed", "done"]
    assert outcomes[0].cause.startswith("killed by signal 9 (SIGKILL)")
    status = RunFolder(killed.folder).read_status()
    assert (status.state, status.step) == ("interrupted", 3)
    assert status.error.startswith("killed by signal 9")
    assert outcomes[0].rerun_command.endswith("do=die steps=3")
    again = make_job("killed", steps=4)
    outcomes = run_jobs([again, fine], num_workers=1)
    assert [outcome.state for outcome in outcomes] == ["done", "skipped"]
    assert result_of(again)["metrics"] == {"first_step": 3.0}


def test_recorded_failures_wait_to_be_asked_for(make_job: MakeJob) -> None:
    job = make_job("a", do="diverge")
    (first,) = run_jobs([job], num_workers=1)
    assert (first.state, first.recorded, first.diverged) == ("failed", False, True)
    assert first.cause == "NonFiniteError: loss is not finite at step 7, beginning in blocks.1.mixer"
    events: list[Event] = []
    (second,) = run_jobs([job], num_workers=1, on_event=events.append)
    assert (second.state, second.recorded, second.cause, second.diverged) == ("failed", True, first.cause, True)
    assert events == [JobEnded(second)]
    (third,) = run_jobs([make_job("a", do="diverge", retry_failed="true")], num_workers=1)
    assert third.state == "done"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_wait_for_checkpoints(make_job: MakeJob, number: signal.Signals) -> None:
    jobs = [make_job("a", steps=1000, pause=0.01), make_job("b")]
    events: list[Event] = []

    def on_event(event: Event) -> None:
        events.append(event)
        if isinstance(event, Tick) and event.running and (jobs[0].folder / "checkpoint").exists():
            signal.raise_signal(number)

    before = signal.getsignal(number)
    outcomes = run_jobs(jobs, num_workers=1, on_event=on_event)
    assert signal.getsignal(number) is before
    assert [outcome.state for outcome in outcomes] == ["interrupted", "interrupted"]
    assert outcomes[1].cause == "not started"
    assert RunFolder(jobs[1].folder).read_status().state == "interrupted"
    status = RunFolder(jobs[0].folder).read_status()
    assert status.state == "interrupted"
    assert 0 < status.step < 1000
    assert int((jobs[0].folder / "checkpoint").read_text()) == status.step
    stops = [(event.reason, event.running) for event in events if isinstance(event, Stopping)]
    assert stops == [(number.name, (jobs[0],))]
    again = make_job("a", steps=status.step + 1)
    assert run_jobs([again], num_workers=1)[0].state == "done"
    assert result_of(again)["metrics"] == {"first_step": float(status.step)}


def test_gpus_go_round_among_the_workers(make_job: MakeJob, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6")
    jobs = [make_job(name, device_type="cuda", pause=0.2) for name in "abc"]
    run_jobs(jobs, num_workers=3)
    assert [result_of(job)["provenance"]["device"] for job in jobs] == ["4", "6", "4"]
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "4,6"


def test_a_job_gets_the_gpu_that_fewest_use(make_job: MakeJob, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6")
    pauses = {"a": 1.0, "b": 0.0, "c": 1.0, "d": 0.0}
    jobs = [make_job(name, device_type="cuda", pause=pause) for name, pause in pauses.items()]
    run_jobs(jobs, num_workers=3)
    # b is over first; a and c still share the other one
    assert [result_of(job)["provenance"]["device"] for job in jobs] == ["4", "6", "4", "6"]


def test_the_environment_is_the_sweeps_own(make_job: MakeJob, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "set after the server began")
    job = make_job("a")
    run_jobs([job], num_workers=1)
    assert result_of(job)["provenance"]["device"] == "set after the server began"


def test_no_workers_is_refused(make_job: MakeJob) -> None:
    with pytest.raises(ValueError, match="num_workers is 0, allowed: 1 or more"):
        run_jobs([make_job("a")], num_workers=0)


def test_sources_are_those_of_the_server(make_job: MakeJob) -> None:
    # a source that is edited now changes no worker, and no worker's provenance
    job = make_job("a")
    run_jobs([job], num_workers=1)
    # those that train and those that evaluate, and the commit
    assert result_of(job)["provenance"]["remembered"] == [2, 1]


def test_waiting_runs_are_queued(make_job: MakeJob) -> None:
    jobs = [make_job(name) for name in ("new", "begun", "damaged")]
    stopped = Status(state="interrupted", step=1, max_steps=2, error="killed", pid=1)
    for job in jobs[1:]:
        RunFolder(job.folder).create()
        RunFolder(job.folder).write_status(stopped)
    (jobs[2].folder / "status.json").write_text("{")
    seen: list[tuple[str, ...]] = []

    def on_event(event: Event) -> None:
        if isinstance(event, JobStarted) and event.job == jobs[0]:
            begun = RunFolder(jobs[1].folder).read_status()
            seen.append((begun.state, begun.step, begun.error, begun.pid))
            seen.append((jobs[2].folder / "status.json").read_text())

    outcomes = run_jobs(jobs, num_workers=1, on_event=on_event)
    assert seen == [("queued", 1, "killed", os.getpid()), "{"]
    assert [outcome.state for outcome in outcomes] == ["done"] * 3


def test_a_retried_failure_that_never_starts_stays_recorded(make_job: MakeJob) -> None:
    jobs = [make_job("first"), make_job("failed", retry_failed="true"), make_job("elsewhere")]
    for job in jobs[1:]:
        RunFolder(job.folder).create()
    failed = Status(state="failed", step=1, max_steps=2, error="RuntimeError: the reason")
    running = Status(state="running", step=1, max_steps=2)
    RunFolder(jobs[1].folder).write_status(failed)
    RunFolder(jobs[2].folder).write_status(running)

    def stop(event: Event) -> None:
        if isinstance(event, JobStarted):
            signal.raise_signal(signal.SIGINT)

    with RunFolder(jobs[2].folder).lock():
        outcomes = run_jobs(jobs, num_workers=1, on_event=stop)
    assert [outcome.cause for outcome in outcomes[1:]] == ["not started"] * 2
    assert RunFolder(jobs[1].folder).read_status() == failed
    assert RunFolder(jobs[2].folder).read_status() == running


def test_what_the_user_can_mend_is_told_without_a_traceback(make_job: MakeJob) -> None:
    job = make_job("a", do="refuse")
    (outcome,) = run_jobs([job], num_workers=1)
    assert (outcome.state, outcome.cause, outcome.kept_failed) == ("failed", "DataError: no corpus", False)
    assert outcome.rerun_command.endswith("do=refuse")
    assert "Traceback" not in outcome.log_tail
    status = RunFolder(job.folder).read_status()
    assert (status.state, status.error) == ("interrupted", "DataError: no corpus")


def test_a_place_that_cannot_be_written_starts_nothing(
    make_job: MakeJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(processes, "process_context", lambda _: pytest.fail("a process would be started"))
    with pytest.raises(RunError, match=r"cannot make .*/file/a/checkpoints: Not a directory; set paths\.runs"):
        run_jobs([make_job("file/a"), make_job("file/b")], num_workers=1)


def test_one_folder_that_cannot_be_written_stops_no_other_run(
    make_job: MakeJob, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    outcomes = run_jobs([make_job("file/a"), make_job("b")], num_workers=1)
    assert [outcome.state for outcome in outcomes] == ["failed", "done"]
    assert outcomes[0].cause.startswith("RunError: cannot make")
    assert "Traceback" not in capfd.readouterr().err
