"""SIGINT and SIGTERM in a process of its own: checkpoint, status, exit, and on with it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from rla_exp.config import Composed
from rla_exp.errors import InterruptedRun
from rla_exp.lit import train_run
from rla_exp.lit.stopping import StopRequest
from rla_exp.runs import RunFolder

SCRIPT = textwrap.dedent(
    """
    import sys
    from dataclasses import asdict, replace
    from pathlib import Path
    sys.path.insert(0, sys.argv[2])
    from conftest import tiny_config
    from rla_exp.config import Composed
    from rla_exp.errors import InterruptedRun
    from rla_exp.lit import train_run
    config = tiny_config(Path(sys.argv[1]))
    config = replace(config, trainer=replace(config.trainer, max_steps=int(sys.argv[3])))
    try:
        train_run(Composed(config, asdict(config), []))
    except InterruptedRun as stop:
        print(stop)
        sys.exit(1)
    """
)


def start(runs: Path, max_steps: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-W", "error", "-c", SCRIPT, str(runs), str(Path(__file__).parent), str(max_steps)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for_step(process: subprocess.Popen[str], runs: Path, step: int) -> RunFolder:
    for _ in range(1200):
        assert process.poll() is None, process.communicate()
        for path in runs.glob("default/*/seed0"):
            status = RunFolder(path).read_status()
            if status is not None and status.step >= step:
                return RunFolder(path)
        time.sleep(0.1)
    raise AssertionError("the run does not get on")


def test_each_start_goes_on_where_the_one_before_was_stopped(tmp_path: Path) -> None:
    first = start(tmp_path, 100_000)
    folder = wait_for_step(first, tmp_path, 3)
    assert folder.is_locked()
    first.send_signal(signal.SIGINT)
    out, err = first.communicate(timeout=60)
    assert (first.returncode, err) == (1, "")
    assert out.startswith("stopped by SIGINT after step ")
    status = folder.read_status()
    assert status is not None
    assert status.state == "interrupted"
    assert status.step == int(out.split(";")[0].split()[-1]) >= 3
    assert (folder.checkpoints / "last.ckpt").stat().st_size > 0
    assert not folder.is_locked()

    second = start(tmp_path, 100_000)
    wait_for_step(second, tmp_path, status.step + 1)
    second.send_signal(signal.SIGTERM)
    out, err = second.communicate(timeout=60)
    assert (second.returncode, err) == (1, "")
    assert out.startswith("stopped by SIGTERM after step ")
    reached = int(out.split(";")[0].split()[-1])
    assert reached > status.step
    log = (folder.path / "log.txt").read_text()
    assert f"starting from step {status.step} of 100000" in log
    steps = [line["step"] for line in folder.read_metrics()]
    assert steps == sorted(set(steps))


def test_signal_before_training_stops_at_once(
    make_run: Callable[..., Composed], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rla_exp.lit import fit as fit_file

    def never(*args: object, **kwargs: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(60)

    monkeypatch.setattr(fit_file, "build_data", never)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(InterruptedRun, match="stopped by SIGINT; the same command goes on"):
        train_run(make_run())
    assert signal.getsignal(signal.SIGINT) is before
    (path,) = tmp_path.glob("runs/default/*/seed0")
    status = RunFolder(path).read_status()
    assert status is not None
    assert (status.state, status.step) == ("interrupted", 0)


def test_second_signal_does_not_wait_for_the_step() -> None:
    stop = StopRequest()
    with stop.listening():
        stop.waits_for_step = True
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.received == "SIGTERM"
        with pytest.raises(InterruptedRun, match="stopped by SIGINT"):
            os.kill(os.getpid(), signal.SIGINT)
