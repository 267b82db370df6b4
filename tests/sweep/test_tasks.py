"""run_tasks: work on finished runs, in processes of its own."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from rla_exp.errors import InterruptedRun
from rla_exp.sweep import Job
from rla_exp.sweep.cluster import ClusterSettings, ClusterWorkers
from rla_exp.sweep.ending import Ending
from rla_exp.sweep.tasks import run_tasks
from rla_exp.sweep.time_limit import TimeLimit

MakeJob = Callable[..., Job]


@pytest.mark.parametrize("on_cluster", [False, True])
def test_each_task_ends_with_its_word(
    make_job: MakeJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, on_cluster: bool
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    jobs = [make_job("fine"), make_job("refuse", do="refuse"), make_job("die", do="die")]
    for job in jobs:
        job.folder.mkdir()
    where = {}
    if on_cluster:
        pytest.importorskip("submitit")
        settings = ClusterSettings(cluster="local", folder=tmp_path / "submitit", timeout_min=60)
        where["start_workers"] = partial(ClusterWorkers, settings=settings)
    ended: dict[str, Ending] = {}
    run_tasks(jobs, num_workers=2, on_end=lambda job, ending: ended.update({job.label: ending}), **where)
    states = {name: ending.state for name, ending in ended.items()}
    assert states == {"fine": "done", "refuse": "failed", "die": "failed"}
    assert ended["refuse"].cause == "DataError: no corpus"
    assert not ended["die"].spoken


def test_the_time_limit_ends_what_runs(make_job: MakeJob) -> None:
    jobs = [make_job("long", steps=1000, pause=0.1), make_job("waiting")]
    began = time.monotonic()
    with pytest.raises(InterruptedRun, match="time limit: 2 of 2 are left"):
        run_tasks(jobs, num_workers=1, on_end=lambda *_: None, limit=TimeLimit.from_now(3.0))
    assert time.monotonic() - began < 20
    assert not (jobs[1].folder / "result.json").exists()
