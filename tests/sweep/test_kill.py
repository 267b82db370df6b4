"""A sweep whose parent is killed or stopped, or that loses a worker, and the same command after it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from rla_exp.runs import RunFolder, Status

SCRIPT = Path(__file__).with_name("sweep_script.py")
SOURCES = Path(__file__).parents[2] / "src"
STEPS = 150


def start(root: Path, *, pause: float) -> subprocess.Popen[str]:
    """Three runs, two at a time, in a process group of their own, as a shell would start them."""
    command = [sys.executable, str(SCRIPT), str(root), "3", str(STEPS), str(pause)]
    environment = {**os.environ, "PYTHONPATH": str(SOURCES)}
    return subprocess.Popen(
        command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for something to become true."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def status(root: Path, name: str) -> Status:
    """The status of a run that has one."""
    found = RunFolder(root / name).read_status()
    assert found is not None
    return found


def two_are_running(root: Path) -> None:
    """Wait until the first two runs have taken steps."""

    def is_running(name: str) -> bool:
        found = RunFolder(root / name).read_status()
        return found is not None and found.state == "running"

    wait_until(lambda: is_running("run0") and is_running("run1"))


def is_alive(pid: int) -> bool:
    """Whether a process is there and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def first_steps(root: Path) -> dict[str, float]:
    """At which step each run's last process began."""
    files = sorted(root.glob("*/result.json"))
    return {file.parent.name: json.loads(file.read_text())["metrics"]["first_step"] for file in files}


def finish(root: Path) -> str:
    """The same command once more, without pauses; it must end well."""
    with start(root, pause=0) as sweep:
        output, _ = sweep.communicate(timeout=60)
    assert sweep.returncode == 0, output
    return output


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")
def test_killed_parent_leaves_no_orphans(tmp_path: Path) -> None:
    with start(tmp_path, pause=0.1) as sweep:
        two_are_running(tmp_path)
        sweep.kill()
    wait_until(lambda: {status(tmp_path, name).state for name in ("run0", "run1")} == {"interrupted"})
    steps = {name: status(tmp_path, name).step for name in ("run0", "run1")}
    assert all(0 < step < STEPS for step in steps.values())
    wait_until(lambda: not any(is_alive(status(tmp_path, name).pid) for name in ("run0", "run1")))
    # nobody was left to say that it waits no more
    assert status(tmp_path, "run2").state == "queued"
    output = finish(tmp_path)
    assert "3 runs: 3 trained" in output
    assert first_steps(tmp_path) == {"run0": steps["run0"], "run1": steps["run1"], "run2": 0}


def test_ctrl_c_reaches_each_run_once(tmp_path: Path) -> None:
    with start(tmp_path, pause=0.1) as sweep:
        two_are_running(tmp_path)
        # what a terminal does: to the whole group
        os.killpg(sweep.pid, signal.SIGINT)
        output, _ = sweep.communicate(timeout=30)
    assert sweep.returncode == 1
    assert "SIGINT: waiting for the checkpoints of 2 runs" in output
    assert "3 runs: 3 interrupted" in output
    assert "Traceback" not in output
    assert [(tmp_path / name / "log.txt").read_text() for name in ("run0", "run1")] == ["begins at step 0\n"] * 2
    steps = {name: status(tmp_path, name).step for name in ("run0", "run1")}
    waited = status(tmp_path, "run2")
    assert (waited.state, waited.error) == ("interrupted", "not started when the sweep ended")
    finish(tmp_path)
    assert first_steps(tmp_path) == {"run0": steps["run0"], "run1": steps["run1"], "run2": 0}


def test_killed_worker_is_told_and_the_others_go_on(tmp_path: Path) -> None:
    with start(tmp_path, pause=0.02) as sweep:
        two_are_running(tmp_path)
        os.kill(status(tmp_path, "run0").pid, signal.SIGKILL)
        output, _ = sweep.communicate(timeout=60)
    assert sweep.returncode == 1
    assert "3 runs: 2 trained, 1 failed" in output
    assert "FAILED run0\n  cause:  killed by signal 9 (SIGKILL)" in output
    assert f"-m rla_exp.cli.train folder={tmp_path / 'run0'}" in output
    step = status(tmp_path, "run0").step
    assert "3 runs: 1 trained, 2 finished before" in finish(tmp_path)
    assert first_steps(tmp_path)["run0"] >= step
