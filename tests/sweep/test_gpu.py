"""Trainings on real GPUs, as many as there are: one device a job, several jobs a device, interruptions."""

from __future__ import annotations

import os
import re
import signal
from collections import Counter
from pathlib import Path

import pytest
import torch

from rla_exp.runs import RunFolder, read_result
from rla_exp.sweep import Event, Job, Tick, run_jobs
from rla_exp.sweep.devices import visible_devices
from rla_exp.sweep.plan import compose_runs, plan_jobs
from rla_exp.sweep.recorded import read_status

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")]

SEGMENT = "[{length:64,num_pairs:4,num_examples:64}]"
TINY = [
    "model=rdn",
    "model.d_model=32",
    "model.head_dim_k=16",
    "model.head_dim_v=16",
    "data.vocab_size=66",
    "data.batch_size=8",
    "optim.warmup_steps=0",
    "trainer.accelerator=gpu",
    *(f"data.{split}={SEGMENT}" for split in ("train", "valid", "test")),
]


def plan(runs: Path, *settings: str, seeds: int = 1) -> list[Job]:
    return plan_jobs(compose_runs([[*TINY, f"paths.runs={runs}", *settings, f"seed={seed}"] for seed in range(seeds)]))


def test_each_job_sees_one_gpu_and_all_gpus_have_as_many(tmp_path: Path) -> None:
    num_gpus = len(visible_devices(plan(tmp_path)))
    assert num_gpus == torch.cuda.device_count()
    jobs = plan(tmp_path, "trainer.max_steps=1000", seeds=2 * num_gpus)
    at_once: list[int] = []

    def count(event: Event) -> None:
        if isinstance(event, Tick):
            at_once.append(sum(_is_training(job) for job in event.running))

    outcomes = run_jobs(jobs, num_workers=2 * num_gpus, on_event=count)
    assert [outcome.state for outcome in outcomes] == ["done"] * len(jobs), [outcome.log_tail for outcome in outcomes]
    # two contexts a GPU at the same time
    assert max(at_once) == 2 * num_gpus
    devices = [(RunFolder(job.folder).read_environment() or {})["device"] for job in jobs]
    assert [device["count"] for device in devices] == [1] * len(jobs)
    named = os.environ.get("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(num_gpus)))).split(",")
    assert Counter(device["visible"] for device in devices) == dict.fromkeys(named, 2)
    # what it is called is what it is
    assert len({device["uuid"] for device in devices}) == num_gpus
    assert len({(device["visible"], device["uuid"]) for device in devices}) == num_gpus


def test_more_jobs_than_places_go_round(tmp_path: Path) -> None:
    num_gpus = torch.cuda.device_count()
    jobs = plan(tmp_path, "trainer.max_steps=20", seeds=3 * num_gpus)
    outcomes = run_jobs(jobs, num_workers=num_gpus)
    assert [outcome.state for outcome in outcomes] == ["done"] * len(jobs)
    uuids = {(RunFolder(job.folder).read_environment() or {})["device"]["uuid"] for job in jobs}
    assert len(uuids) == num_gpus


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_training_ends_with_the_same_numbers(tmp_path: Path, number: signal.Signals) -> None:
    settings = (
        "trainer.max_steps=400",
        "trainer.checkpoint_every=5",
        "trainer.log_every=1",
        "trainer.deterministic=true",
    )
    (job,) = plan(tmp_path / "disturbed", *settings)
    sent: list[int] = []

    def stop_on_the_way(event: Event) -> None:
        status = read_status(job.folder)
        if isinstance(event, Tick) and event.running and not sent and status is not None and status.step >= 10:
            sent.append(status.pid)
            os.kill(status.pid, number)

    (stopped,) = run_jobs([job], num_workers=1, on_event=stop_on_the_way)
    assert stopped.state == ("interrupted" if number == signal.SIGTERM else "failed"), stopped.log_tail
    (undisturbed,) = plan(tmp_path / "undisturbed", *settings)
    # both on one GPU, where there is one
    outcomes = run_jobs([job, undisturbed], num_workers=2)
    assert [outcome.state for outcome in outcomes] == ["done", "done"], [outcome.log_tail for outcome in outcomes]
    begun = [int(step) for step in re.findall(r"from step (\d+) of 400", (job.folder / "log.txt").read_text())]
    assert begun[0] == 0
    assert begun[1] >= 5
    ours, theirs = read_result(job.folder), read_result(undisturbed.folder)
    assert ours is not None
    assert theirs is not None
    assert ours.metrics == theirs.metrics
    assert _lines(job) == _lines(undisturbed)


def _is_training(job: Job) -> bool:
    status = read_status(job.folder)
    return status is not None and status.state == "running" and status.step > 0


def _lines(job: Job) -> list[dict[str, object]]:
    """What was logged, less the throughput, which does not repeat."""
    return [
        {key: value for key, value in line.items() if key != "tokens_per_s"}
        for line in RunFolder(job.folder).read_metrics()
    ]
