"""Real trainings in worker processes: through --multirun, and killed on the way."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import pytest

from rla_exp.cli.train import main
from rla_exp.runs import RunFolder, read_result
from rla_exp.sweep import Event, Job, Tick, run_jobs
from rla_exp.sweep.plan import compose_runs, plan_jobs
from rla_exp.sweep.recorded import read_status

SEGMENT = "[{length:16,num_pairs:2,num_examples:16}]"
TINY = [
    "model=rdn",
    "model.d_model=16",
    "model.head_dim_k=8",
    "model.head_dim_v=8",
    "data.vocab_size=32",
    "data.batch_size=8",
    "optim.warmup_steps=0",
    *(f"data.{split}={SEGMENT}" for split in ("train", "valid", "test")),
]


def plan(runs: Path, *settings: str) -> list[Job]:
    return plan_jobs(compose_runs([[*TINY, f"paths.runs={runs}", *settings]]))


def test_killed_training_goes_on_to_the_same_numbers(tmp_path: Path) -> None:
    # long enough that the display looks at it before it ends, however fast the machine
    settings = ("trainer.max_steps=400", "trainer.checkpoint_every=5", "trainer.log_every=1")
    (job,) = plan(tmp_path / "killed", *settings)

    def kill_on_the_way(event: Event) -> None:
        status = read_status(job.folder)
        if isinstance(event, Tick) and event.running and status is not None and status.step >= 10:
            os.kill(status.pid, signal.SIGKILL)

    (killed,) = run_jobs([job], num_workers=1, on_event=kill_on_the_way)
    assert (killed.state, killed.cause) == (
        "failed",
        "killed by signal 9 (SIGKILL), as the system does when memory runs out",
    )
    assert RunFolder(job.folder).read_status().state == "interrupted"
    (undisturbed,) = plan(tmp_path / "undisturbed", *settings)
    outcomes = run_jobs([job, undisturbed], num_workers=2)
    assert [outcome.state for outcome in outcomes] == ["done", "done"]
    begun = [int(step) for step in re.findall(r"from step (\d+) of 400", (job.folder / "log.txt").read_text())]
    assert begun[0] == 0
    assert begun[1] >= 5
    assert begun[1] % 5 == 0
    assert read_result(job.folder).metrics == read_result(undisturbed.folder).metrics


def test_multirun_trains_skips_and_tells_failures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--multirun", *TINY, f"paths.runs={tmp_path}", "trainer.max_steps=4", "seed=0,1"]
    assert main([*arguments, "optim.lr=1e-3"]) == 0
    assert "2 runs: 2 trained" in capsys.readouterr().out
    assert main([*arguments, "optim.lr=1e-3,1e30", "hydra.launcher.jobs=1"]) == 1
    shown = capsys.readouterr()
    assert "4 runs: 2 finished before, 2 failed" in shown.out
    assert len(re.findall(r"  cause:  NonFiniteError: .* is not finite at step \d, beginning in ", shown.out)) == 2
    # runs are as many as before: the failed ones are told, not tried
    assert main([*arguments, "optim.lr=1e-3,1e30"]) == 1
    shown = capsys.readouterr()
    assert "started" not in shown.out
    assert shown.out.count("(in another sweep, not tried again)") == 2
    assert "Traceback" not in shown.err


def test_multirun_refuses_before_anything_starts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--multirun", *TINY, f"paths.runs={tmp_path / 'runs'}", "seed=0,1"]
    assert main([*arguments, "hydra.launcher.jobs=0"]) == 1
    assert "hydra.launcher.jobs=0: must be 1 or more, or null" in capsys.readouterr().err
    assert main([*arguments, "ablation=full,no_clipp"]) == 1
    assert "did you mean no_clip?" in capsys.readouterr().err
    assert not list(tmp_path.glob("runs/*/"))
