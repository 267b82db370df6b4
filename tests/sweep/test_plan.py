"""From overrides to jobs."""

from __future__ import annotations

from pathlib import Path

import pytest

from rla_exp.config import compose
from rla_exp.errors import ConfigError
from rla_exp.sweep.plan import compose_runs, plan_jobs


def test_composed_once_for_all_seeds_is_composed_for_each() -> None:
    settings = ["model=rla", "debug=fast"]
    runs = [[*settings, "seed=0"], [*settings, "seed=12"], ["seed=3", "model=rdn", "debug=fast"], settings]
    assert compose_runs(runs) == [compose(overrides) for overrides in runs]


def test_problems_of_all_runs_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        compose_runs([["model=rlaa", "seed=0"], ["optim.lrr=1", "seed=1"], ["seed=-1"], ["seed=0", "seed=1"]])
    problems = caught.value.problems
    assert len(problems) == 4
    for problem, words in zip(
        problems, ("did you mean rla?", "did you mean optim.lr?", "seed=-1", "already set"), strict=True
    ):
        assert words in problem


def test_jobs_lead_to_the_folders_of_their_runs(tmp_path: Path) -> None:
    paths = f"paths.runs={tmp_path}"
    runs = compose_runs([["model=rla", "debug=fast", f"seed={seed}", paths] for seed in (0, 1)])
    first, second = plan_jobs(runs, ["one", "two"])
    assert first.folder.parent == second.folder.parent
    assert first.folder.parent.parent == tmp_path / "debug"
    assert first.folder.parent.name.startswith("rla-full-mqar-")
    assert [first.folder.name, second.folder.name] == ["seed0", "seed1"]
    assert (first.name, first.device_type, first.threads, first.retry_failed) == ("one", "cpu", 1, False)
    assert first.overrides == ("model=rla", "debug=fast", "seed=0", paths)


def test_several_devices_a_job_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"trainer\.devices=2"):
        plan_jobs(compose_runs([["model=rla", "trainer=gpu", "trainer.devices=2"]]))
