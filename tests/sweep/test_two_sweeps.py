"""Two sweeps of the same runs at once: nothing is trained twice, and both end well."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from rla_exp.runs import RunFolder, Status, read_result
from rla_exp.sweep import Event, Job, JobElsewhere, JobReleased, Tick, run_jobs

SCRIPT = Path(__file__).with_name("sweep_script.py")
SOURCES = Path(__file__).parents[2] / "src"
MakeJob = Callable[..., Job]


def start(root: Path, num_jobs: int, steps: int, pause: float) -> subprocess.Popen[str]:
    """A sweep of two workers in a process group of its own."""
    command = [sys.executable, str(SCRIPT), str(root), str(num_jobs), str(steps), str(pause)]
    environment = {**os.environ, "PYTHONPATH": str(SOURCES)}
    return subprocess.Popen(
        command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )


def test_both_end_well_and_nothing_is_trained_twice(tmp_path: Path) -> None:
    with start(tmp_path, 6, 20, 0.03) as first, start(tmp_path, 6, 20, 0.03) as second:
        outputs = [sweep.communicate(timeout=60)[0] for sweep in (first, second)]
    assert [first.returncode, second.returncode] == [0, 0], outputs
    logs = [(tmp_path / f"run{number}" / "log.txt").read_text() for number in range(6)]
    assert logs == ["begins at step 0\n"] * 6
    for output in outputs:
        assert "FAILED" not in output
        assert "6 runs: " in output


def test_what_a_killed_sweep_leaves_is_finished_by_the_one_that_waits(tmp_path: Path, make_job: MakeJob) -> None:
    job = make_job("run0", steps=400, pause=0.05)
    events: list[Event] = []
    with start(tmp_path, 1, 400, 0.05) as other:

        def on_event(event: Event) -> None:
            events.append(event)
            if isinstance(event, JobElsewhere):
                # the worker first: it would write its checkpoint if only its sweep died
                status = RunFolder(job.folder).read_status()
                os.kill(status.pid, signal.SIGKILL)
                other.kill()

        while (status := RunFolder(job.folder).read_status()) is None or status.state != "running":
            assert other.poll() is None
        quick = replace(job, work=make_job("run0", steps=400).work)
        (outcome,) = run_jobs([quick], num_workers=1, on_event=on_event)
    assert [type(event) for event in events if not isinstance(event, Tick)][:2] == [JobElsewhere, JobReleased]
    assert outcome.state == "done"
    assert read_result(job.folder).metrics["first_step"] > 0


def test_a_failure_of_the_other_sweep_is_told_not_repeated(tmp_path: Path, make_job: MakeJob) -> None:
    job = make_job("a")
    folder = RunFolder(job.folder)
    folder.create()
    held = folder.lock()
    held.__enter__()

    def fail_elsewhere(event: Event) -> None:
        if isinstance(event, JobElsewhere):
            folder.write_status(Status(state="failed", error="RuntimeError: the reason"))
            held.__exit__(None, None, None)

    (outcome,) = run_jobs([job], num_workers=1, on_event=fail_elsewhere)
    assert (outcome.state, outcome.cause, outcome.recorded) == ("failed", "RuntimeError: the reason", True)
    assert not (job.folder / "log.txt").exists()


def test_a_folder_of_another_configuration_is_refused_even_if_finished(make_job: MakeJob) -> None:
    jobs = [replace(make_job(name), resolved={"optim": {"lr": 1e-3}, "seed": 0}) for name in ("edited", "fine")]
    for job, lr in zip(jobs, (2e-3, 1e-3), strict=True):
        RunFolder(job.folder).create()
        RunFolder(job.folder).write_config({"optim": {"lr": lr}, "seed": 0})
        (job.folder / "result.json").write_text("{}")
    outcomes = run_jobs(jobs, num_workers=1)
    assert [outcome.state for outcome in outcomes] == ["failed", "skipped"]
    assert "optim.lr: 0.002 in the file, 0.001 now" in outcomes[0].cause
