"""Sweeps through submitit: with its local executor, and the words that SLURM would be given."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain, repeat
from pathlib import Path
from unittest.mock import Mock

import pytest

from rla_exp.cli.train import main
from rla_exp.runs import RunFolder, Status, read_result
from rla_exp.sweep import Event, Job, Tick, cluster, run_jobs
from rla_exp.sweep.cluster import ClusterSettings, ClusterWorkers, _Submitted, make_executor
from rla_exp.sweep.plan import compose_runs, plan_jobs

MakeJob = Callable[..., Job]

pytest.importorskip("submitit")


@pytest.fixture
def on_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list]:
    """run_jobs on submitit's local executor."""
    # the fake training is a module of this folder
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    settings = ClusterSettings(cluster="local", folder=tmp_path / "submitit", timeout_min=60)
    return partial(run_jobs, num_workers=2, start_workers=partial(ClusterWorkers, settings=settings))


def test_jobs_end_as_on_one_machine(make_job: MakeJob, on_cluster: Callable[..., list]) -> None:
    jobs = [make_job("fine"), make_job("raise", do="raise"), make_job("die", do="die")]
    outcomes = on_cluster(jobs)
    assert [outcome.state for outcome in outcomes] == ["done", "failed", "failed"]
    assert outcomes[1].cause == "RuntimeError: the reason"
    assert "RuntimeError: the reason" in outcomes[1].log_tail
    assert "without a word" in outcomes[2].cause
    seen = read_result(jobs[0].folder).provenance
    assert seen["pid"] != os.getpid()
    assert seen["threads"] == "1"
    # no GPU was asked for
    assert seen["device"] == ""
    assert [outcome.state for outcome in on_cluster(jobs[:2])] == ["skipped", "failed"]


def test_a_preempted_job_is_requeued_and_goes_on(make_job: MakeJob, on_cluster: Callable[..., list]) -> None:
    job = make_job("a", steps=60, pause=0.05)
    preempted: list[int] = []

    def preempt_once(event: Event) -> None:
        status = RunFolder(job.folder).read_status()
        if isinstance(event, Tick) and not preempted and status.state == "running":
            preempted.append(status.pid)
            os.kill(status.pid, signal.SIGUSR2)

    (outcome,) = on_cluster([job], on_event=preempt_once)
    assert outcome.state == "done"
    result = read_result(job.folder)
    assert 0 < result.metrics["first_step"] < 60
    assert result.provenance["pid"] not in preempted


def test_an_interrupted_sweep_waits_for_checkpoints(make_job: MakeJob, on_cluster: Callable[..., list]) -> None:
    job = make_job("a", steps=1000, pause=0.02)

    def interrupt(event: Event) -> None:
        status = RunFolder(job.folder).read_status()
        if isinstance(event, Tick) and event.running and status.state == "running":
            signal.raise_signal(signal.SIGINT)

    (outcome,) = on_cluster([job], on_event=interrupt)
    assert outcome.state == "interrupted"
    status = RunFolder(job.folder).read_status()
    assert status.state == "interrupted"
    assert int((job.folder / "checkpoint").read_text()) == status.step


def test_a_status_that_vanishes_stops_no_other_process(
    make_job: MakeJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, handle = make_job("a"), Mock()
    workers = ClusterWorkers([job], 1, settings=ClusterSettings(cluster="local", folder=tmp_path / "submitit"))
    workers.submitted[job.folder] = _Submitted(job, handle, 0.0)
    killed: list[tuple[int, signal.Signals]] = []
    monkeypatch.setattr(cluster.os, "kill", lambda pid, number: killed.append((pid, number)))
    read: Iterator[Status | None] = chain([Status(state="running", pid=4711)], repeat(None))
    monkeypatch.setattr(cluster, "read_status", lambda _folder: next(read))
    workers.stop(signal.SIGINT)
    assert (killed, handle.cancel.call_count) == ([(4711, signal.SIGINT)], 0)
    # there is no status any more: nothing is known to run, so the job leaves the queue
    workers.stop(signal.SIGINT)
    assert (killed, handle.cancel.call_count) == ([(4711, signal.SIGINT)], 1)


def fake_slurm(folder: Path, monkeypatch: pytest.MonkeyPatch, state: str) -> Path:
    """Commands of SLURM that write down how they are called; jobs are in `state` for ever."""
    folder.mkdir()
    calls = folder / "calls"
    answers = {
        "srun": "",
        "sbatch": 'cp "$1" ' + str(folder / "script") + "; echo Submitted batch job 42",
        "sacct": f"printf 'JobID|State|NodeList\\n42|{state}|node1\\n'",
        "scancel": "",
    }
    for name, answer in answers.items():
        (folder / name).write_text(f'#!/bin/sh\necho {name} "$@" >> {calls}\n{answer}\n')
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return calls


def test_what_slurm_is_asked_for(make_job: MakeJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_slurm(tmp_path / "bin", monkeypatch, "PENDING")
    settings = ClusterSettings(folder=tmp_path / "s", timeout_min=90, partition="gpu", sbatch={"exclude": "node7"})
    job = make_job("a", device_type="cuda")
    make_executor(job, settings).submit(print)
    script = (tmp_path / "bin" / "script").read_text()
    for line in (
        "--gpus-per-node=1",
        "--cpus-per-task=1",
        "--ntasks-per-node=1",
        "--nodes=1",
        "--time=90",
        "--mem=16GB",
        "--partition=gpu",
        "--exclude=node7",
        "--requeue",
        "--signal=USR2@120",
        "--open-mode=append",
    ):
        assert f"#SBATCH {line}\n" in script
    make_executor(make_job("b"), settings).submit(print)
    assert "#SBATCH --gpus-per-node=0\n" in (tmp_path / "bin" / "script").read_text()


def test_jobs_of_a_killed_sweep_are_found_again(
    make_job: MakeJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = fake_slurm(tmp_path / "bin", monkeypatch, "PENDING")
    settings = ClusterSettings(folder=tmp_path / "s")
    job = make_job("a")
    job.folder.mkdir()
    first = ClusterWorkers([job], 1, settings=settings)
    assert not first.adopt(job)
    first.start(job)
    assert (first.running, first.has_room()) == ((job,), False)

    second = ClusterWorkers([job], 1, settings=settings)
    assert second.adopt(job)
    assert second.running == (job,)
    # it waits in the queue: nothing of it runs that could write a checkpoint
    second.stop(signal.SIGINT)
    assert calls.read_text().count("sbatch ") == 1
    assert "scancel 42\n" in calls.read_text()


def test_runs_are_planned_for_the_nodes_and_not_for_this_machine(tmp_path: Path) -> None:
    runs = compose_runs(
        [["model=rla", *words, f"paths.runs={tmp_path}"] for words in (["trainer=gpu"], ["trainer=cpu"])]
    )
    assert [job.device_type for job in plan_jobs(runs, has_gpu=True)] == ["cuda", "cpu"]


def preempt_when_it_trains(runs: Path) -> None:
    """Wait for a run that trains, then send its process what SLURM sends before a preemption."""
    deadline = time.monotonic() + 100
    while time.monotonic() < deadline:
        for file in runs.glob("*/*/seed*/status.json"):
            status = RunFolder(file.parent).read_status()
            if status.state == "running" and status.step > 2:
                os.kill(status.pid, signal.SIGUSR2)
                return
        time.sleep(0.01)


def test_a_preempted_training_on_submitits_local_executor(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["--multirun", "launcher=slurm", "hydra.launcher.cluster=local", "hydra.launcher.gpu=false"]
    command += ["model=rla", "debug=fast", "trainer=cpu", "trainer.max_steps=100", "trainer.diagnostics_every=null"]
    segment = "[{length:16,num_pairs:2,num_examples:16}]"
    command += [f"data.{split}={segment}" for split in ("train", "valid", "test")]
    command += ["model.d_model=16", "data.vocab_size=32", "data.batch_size=4", f"paths.runs={tmp_path}"]
    preempting = threading.Thread(target=preempt_when_it_trains, args=(tmp_path,))
    preempting.start()
    assert main(command) == 0, capsys.readouterr()
    preempting.join()
    assert "1 runs: 1 trained" in capsys.readouterr().out
    (log,) = tmp_path.glob("debug/*/seed0/log.txt")
    begun = [int(step) for step in re.findall(r"starting from step (\d+) of 100", log.read_text())]
    assert begun[0] == 0
    assert 2 < begun[1] < 100
    # requeued by submitit, not by the sweep: one job did both parts
    (submitted,) = tmp_path.glob(".submitit/*_log.out")
    assert submitted.read_text().count("Starting with JobEnvironment") == 2


def test_settings_of_the_launcher_are_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["--multirun", "launcher=slurm", "model=rla", "debug=fast", "trainer=cpu", f"paths.runs={tmp_path}"]
    assert main([*command, "hydra.launcher.jbos=2", "+hydra.launcher.sbatch.exclude=node7"]) == 1
    shown = capsys.readouterr().err
    assert "did you mean hydra.launcher.jobs?" in shown
    assert "exclude" not in shown
    assert main([*command, "hydra.launcher.jobs=0", "hydra.launcher.cluster=pbs"]) == 1
    shown = capsys.readouterr().err
    assert "hydra.launcher.jobs=0: must be 1 or more" in shown
    assert "hydra.launcher.cluster=pbs: must be slurm or local" in shown
