"""Runs as their folders tell them: states, groups, labels, and folders that are damaged."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from rla_exp.dashboard.groups import group_runs
from rla_exp.dashboard.records import TAIL_BYTES, read_records
from rla_exp.runs import RunFolder, Status

MakeRun = Callable[..., RunFolder]


def test_seeds_are_one_group_in_the_order_of_numbers(make_run: MakeRun, tmp_path: Path) -> None:
    for seed in (10, 9, 0):
        make_run(tmp_path, "study/deep/rdn-full-mqar-00000001", seed=seed, level=0.5)
    (group,) = group_runs(read_records(tmp_path))
    assert group.experiment == "study/deep"
    assert (group.model, group.ablation, group.data) == ("rdn", "full", "mqar")
    assert [run.seed for run in group.runs] == ["0", "9", "10"]
    assert group.runs[0].key == "study/deep/rdn-full-mqar-00000001/seed0"
    accuracy = group.final["test/accuracy"]
    # 0.5, 0.59 and 0.6
    assert (accuracy.n, accuracy.mean, accuracy.sd) == pytest.approx((3, 1.69 / 3, 0.0550757))
    assert group.runs[0].headline == ("test/accuracy", 0.5)


def test_labels_tell_groups_apart_by_what_differs(make_run: MakeRun, tmp_path: Path) -> None:
    make_run(tmp_path, "a/rdn-full-mqar-00000001", settings={"optim.lr": 0.01})
    make_run(tmp_path, "a/rdn-full-mqar-00000002", settings={"optim.lr": 0.009000000000000001})
    make_run(tmp_path, "a/rla-full-mqar-00000003", settings={"model.name": "rla"})
    make_run(tmp_path, "b/rdn-full-mqar-00000001", settings={"optim.lr": 0.01})
    labels = {group.key: group.label for group in group_runs(read_records(tmp_path))}
    assert labels == {
        "a/rdn-full-mqar-00000001": "rdn · full · mqar · lr=0.01",
        "a/rdn-full-mqar-00000002": "rdn · full · mqar · lr=0.009",
        "a/rla-full-mqar-00000003": "rla · full · mqar",
        "b/rdn-full-mqar-00000001": "rdn · full · mqar",
    }


def test_equal_configurations_are_told_apart_by_their_hash(make_run: MakeRun, tmp_path: Path) -> None:
    for digits in ("0000000a", "0000000b"):
        make_run(tmp_path, f"a/rdn-full-mqar-{digits}")
    labels = [group.label for group in group_runs(read_records(tmp_path))]
    assert labels == ["rdn · full · mqar · 0000000a", "rdn · full · mqar · 0000000b"]


def test_running_without_the_lock_is_dead(make_run: MakeRun, tmp_path: Path) -> None:
    folder = make_run(tmp_path, "a/rdn-full-mqar-00000001", state="running")
    assert [record.state for record in read_records(tmp_path)] == ["died"]
    with folder.lock():
        assert [record.state for record in read_records(tmp_path)] == ["running"]


@pytest.fixture
def gone_pid() -> int:
    """The id of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_what_waits_for_a_killed_sweep_is_interrupted(make_run: MakeRun, tmp_path: Path, gone_pid: int) -> None:
    folder = make_run(tmp_path, "a/rdn-full-mqar-00000001", state="queued")

    def state_where(**writer: int | str) -> str:
        folder.write_status(Status(state="queued", **writer))
        (record,) = read_records(tmp_path)
        return record.state

    assert state_where() == "queued"
    assert state_where(pid=gone_pid) == "interrupted"
    with folder.lock():
        # a worker that outlives its sweep, about to write its own status
        assert state_where(pid=gone_pid) == "queued"
    # nothing is known here of the processes of another machine
    assert state_where(pid=gone_pid, host="elsewhere") == "queued"
    (folder.path / "cluster_job.json").write_text('{"cluster": "slurm", "id": "42"}')
    assert state_where(pid=gone_pid) == "queued"


def test_damaged_files_are_told_and_end_nothing(make_run: MakeRun, tmp_path: Path) -> None:
    folder = make_run(tmp_path, "a/rdn-full-mqar-00000001")
    make_run(tmp_path, "a/rdn-full-mqar-00000001", seed=1)
    (folder.path / "evaluations").mkdir()
    for name in ("status.json", "result.json", "config.yaml", "metrics.jsonl", "evaluations/recall.json"):
        (folder.path / name).write_text("{\n{")
    damaged, whole = read_records(tmp_path)
    assert damaged.state == "unknown"
    assert (damaged.config, damaged.rows, damaged.result) == ({}, [], None)
    assert len(damaged.problems) == 5
    assert all(str(folder.path) in problem for problem in damaged.problems)
    assert (whole.state, whole.problems) == ("done", [])


def test_folders_of_something_else_are_no_runs(tmp_path: Path) -> None:
    for name in ("a/b/seed0", "a/b/seedling", "a/b/seed1/checkpoints"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "a/b/seedling/status.json").write_text("{}")
    assert read_records(tmp_path) == []
    assert read_records(tmp_path / "nowhere") == []


def test_the_end_of_a_long_log(make_run: MakeRun, tmp_path: Path) -> None:
    folder = make_run(tmp_path, "a/rdn-full-mqar-00000001")
    (folder.path / "log.txt").write_text("".join(f"line {number}\n" for number in range(100_000)))
    (record,) = read_records(tmp_path)
    assert record.log_tail.endswith("line 99999\n")
    assert record.log_tail.startswith("line ")
    assert TAIL_BYTES - 20 < len(record.log_tail) <= TAIL_BYTES
