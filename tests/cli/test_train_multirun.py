"""Sweeps: every problem of every run is known before the first run starts."""

import os
from pathlib import Path

import pytest

from rla_exp.cli.train import main
from rla_exp.config import compose
from rla_exp.sweep import JobOutcome
from rla_exp.sweep.processes import ProcessWorkers


def test_a_sweep_hands_every_combination_to_the_launcher(training, monkeypatch):
    def in_this_process(jobs, *, num_workers, start_workers):
        for job in jobs:
            training.train_run(compose(job.overrides))
        assert num_workers == 3
        assert start_workers is ProcessWorkers
        return [JobOutcome(job=job, state="done") for job in jobs]

    monkeypatch.setattr("rla_exp.sweep.run.run_sweep", in_this_process)
    assert main(["--multirun", "model=rla,rdn", "hydra.launcher.jobs=3", "model.skip=false,true"]) == 0
    found = [(composed.config.model.name, composed.config.model.skip) for composed in training.trained]
    assert found == [("rla", False), ("rla", True), ("rdn", False), ("rdn", True)]
    # hydra leaves neither outputs/ nor multirun/ nor its own notes
    assert [path.name for path in Path().iterdir()] == ["runs"]
    assert [path.name for path in Path("runs").iterdir()] == ["default"]


def test_an_experiment_may_hold_its_sweep(training, monkeypatch):
    def in_this_process(jobs, *, num_workers, start_workers):
        for job in jobs:
            training.train_run(compose(job.overrides))
        return [JobOutcome(job=job, state="done") for job in jobs]

    monkeypatch.setattr("rla_exp.sweep.run.run_sweep", in_this_process)
    # the data of a machine that has Python's documentation or not
    words = ["--multirun", "experiment=stability", "data=mqar"]
    assert main(words) == 0
    configs = [composed.config for composed in training.trained]
    assert len(configs) == 18
    assert {config.model.name for config in configs} == {"rla", "rdn"}
    assert {config.ablation for config in configs} == {"full", "no_norm", "no_clip"}
    assert {config.seed for config in configs} == {0, 1, 2}
    assert all(config.trainer.diagnostics_every == 10 for config in configs)
    training.trained.clear()
    # what is typed wins
    assert main([*words, "seed=7", "ablation=full"]) == 0
    found = [(run.config.model.name, run.config.ablation, run.config.seed) for run in training.trained]
    assert found == [("rla", "full", 7), ("rdn", "full", 7)]


def test_several_devices_a_job_are_refused(training, capsys):
    assert main(["--multirun", "seed=0,1", "trainer.devices=1,2"]) == 1
    assert capsys.readouterr().err == (
        "1 problem with the configuration:\n"
        "  - trainer.devices=2: --multirun gives every job one device; leave it at 1, or train the runs one command at "
        "a time\n"
    )
    assert training.trained == []


def test_problems_of_runs_and_of_hydra_come_together(training, capsys):
    assert (
        main(["-m", "modle=rla,rdn", "hydra.launcher.jbos=2", "hydra.launcher.jobs=abc", "hydra/launcher=basic"]) == 1
    )
    assert capsys.readouterr().err == (
        "4 problems with the configuration:\n"
        "  - hydra.launcher.jbos=2: there is no setting hydra.launcher.jbos; did you mean hydra.launcher.jobs?\n"
        "  - hydra.launcher.jobs=abc: Value 'abc' of type 'str' could not be converted to Integer\n"
        "  - hydra/launcher=basic: a launcher comes with its settings; write launcher=OPTION\n"
        "  - modle=rla,rdn: there is no setting modle; did you mean model?\n"
    )
    assert training.trained == []


def test_hydras_environment_is_as_before(training, monkeypatch):
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    main(["--info", "searchpath"])
    assert "HYDRA_FULL_ERROR" not in os.environ


@pytest.mark.parametrize(
    ("states", "code", "said"),
    [
        (("done", "failed"), 1, "1 runs failed; they are listed above\n"),
        (("failed", "interrupted"), 130, "the sweep was interrupted; the same command goes on\n"),
    ],
)
def test_how_a_sweep_ends_is_said_once(training, monkeypatch, capsys, states, code, said):
    def ended(jobs, **_):
        return [JobOutcome(job=job, state=state) for job, state in zip(jobs, states, strict=True)]

    monkeypatch.setattr("rla_exp.sweep.run.run_sweep", ended)
    assert main(["--multirun", "debug=fast", "seed=0,1"]) == code
    assert capsys.readouterr().err == said


@pytest.mark.parametrize("place", ["file", "/proc/x"])
def test_a_place_that_cannot_be_written_starts_nothing(training, tmp_path, monkeypatch, capfd, place):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr("rla_exp.sweep.processes.process_context", lambda _: pytest.fail("a process would be started"))
    assert main(["--multirun", f"paths.runs={place}", "debug=fast", "seed=0,1"]) == 1
    shown = capfd.readouterr()
    assert "Traceback" not in shown.out + shown.err
    assert shown.err.startswith(f"cannot make {place}/debug/")
    assert shown.err.count("\n") == 1
    assert "set paths.runs" in shown.err


@pytest.mark.slow
def test_a_sweep_runs_in_processes_and_is_not_run_twice(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    sweep = ["--multirun", "debug=fast", "model=rla,linear_attention"]
    assert main(sweep) == 0
    assert len(list(tmp_path.rglob("result.json"))) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]
    capfd.readouterr()
    assert main(sweep) == 0
    assert "2 finished before" in capfd.readouterr().out
