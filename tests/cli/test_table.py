"""The table command: from nothing to a table, again, and with runs that failed or do not fit."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from rla_exp.cli import table as command
from rla_exp.cli import table_runs
from rla_exp.cli.key_values import read_key_values
from rla_exp.runs import RunFolder, Status
from rla_exp.sweep import Job, pool

UseTables = Callable[[Path], None]
Run = Callable[..., tuple[int, str, str]]
FILES = {"table.md", "table.csv", "table.tex", "cells.json", "environment.json", "figure.png", "figure.svg"}


@pytest.fixture
def _no_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(threads: int) -> None:
        raise AssertionError("a process would be started")

    monkeypatch.setattr("rla_exp.sweep.processes.process_context", refuse)


def folders(tmp_path: Path, name: str = "*") -> list[Path]:
    """The run folders, of both seeds."""
    return sorted((tmp_path / "runs").glob(f"*/rdn-{name}-mqar-*/seed*"))


def fail(folder: Path, error: str) -> None:
    """Make a finished run a failed one."""
    (folder / "result.json").unlink()
    RunFolder(folder).write_status(Status(state="failed", step=1, max_steps=2, error=error))


@pytest.mark.usefixtures("_no_processes")
def test_complete_table_is_only_written(run: Run, trained: Path, tmp_path: Path) -> None:
    code, out, _ = run()
    assert code == 0
    assert "4 runs: 4 finished before" in out
    assert "| **RDN** | full |" in out
    written = tmp_path / "results" / "tiny" / "smoke"
    assert {path.name for path in written.iterdir()} == FILES
    assert all(str(written / name) in out for name in FILES)
    # the command that trained the runs wrote the same bytes
    for name in FILES:
        assert (written / name).read_bytes() == (trained / "results" / "tiny" / "smoke" / name).read_bytes(), name


def test_missing_runs_are_trained(run: Run, tmp_path: Path) -> None:
    gone = folders(tmp_path, "full")[1]
    before = json.loads((gone / "result.json").read_text())["metrics"]
    shutil.rmtree(gone)
    code, out, _ = run("jobs=1")
    assert code == 0
    assert "[4/4] done rdn/full mqar seed 1" in out
    assert "4 runs: 1 trained, 3 finished before" in out
    assert json.loads((gone / "result.json").read_text())["metrics"] == before


@pytest.mark.usefixtures("_no_processes")
def test_divergence_is_a_result_and_other_failures_are_not(run: Run, tmp_path: Path) -> None:
    fail(folders(tmp_path, "no_clip")[0], "NonFiniteError: loss is not finite at step 1, beginning in blocks.0.mixer")
    code, out, _ = run()
    assert code == 0
    assert "note: 1 runs diverged; the table counts them as failed" in out
    assert "1 of 2 |" in out
    fail(folders(tmp_path, "no_clip")[1], "RuntimeError: the reason")
    code, out, err = run()
    assert code == 1
    assert "cause:  RuntimeError: the reason" in out
    assert "1 runs failed for other reasons than divergence" in err


def test_failed_runs_are_retried_when_asked(run: Run, tmp_path: Path) -> None:
    fail(folders(tmp_path, "no_clip")[0], "RuntimeError: the reason")
    code, out, _ = run("retry_failed=true")
    assert code == 0
    assert "4 runs: 1 trained, 3 finished before" in out


@pytest.mark.usefixtures("_no_processes")
def test_runs_of_other_sources_are_refused_before_training(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table_runs, "sources_hash", lambda: "0" * 64)
    assert run()[0] == 0
    shutil.rmtree(folders(tmp_path, "full")[0])
    code, _, err = run()
    assert code == 1
    assert "3 finished runs of this table were computed by other sources" in err
    assert "mixed=true" in err


def test_interruption_writes_no_table(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in folders(tmp_path, "full"):
        shutil.rmtree(folder)
    start = pool._Pool._start

    def interrupted(self: pool._Pool, job: Job) -> None:
        signal.raise_signal(signal.SIGINT)
        start(self, job)

    monkeypatch.setattr(pool._Pool, "_start", interrupted)
    code, out, err = run("jobs=1")
    assert code == 130
    assert "SIGINT: waiting for the checkpoints of 1 runs" in out
    left, _, words = err.partition(" ")
    assert words == "of 4 runs are left; the table was not written, and the same command goes on\n"
    # the run that the signal found may have ended all the same, in time to say so or not
    assert 1 <= 4 - len(list((tmp_path / "runs").glob("*/*/*/result.json"))) <= int(left) <= 2
    assert list((tmp_path / "results" / "tiny" / "smoke").iterdir()) == []


@pytest.mark.usefixtures("_no_processes")
@pytest.mark.parametrize("setting", ["runs", "results"])
def test_places_that_cannot_be_written_are_told_before_training(
    trained: Path, tmp_path: Path, use_tables: UseTables, capsys: pytest.CaptureFixture[str], setting: str
) -> None:
    use_tables(trained)
    (tmp_path / "file").write_text("")
    places = {"runs": tmp_path / "runs", "results": tmp_path / "results", setting: tmp_path / "file"}
    assert command.main(["table=tiny", "scale=smoke", *(f"{name}={path}" for name, path in places.items())]) == 1
    err = capsys.readouterr().err
    assert str(tmp_path / "file") in err
    assert setting in err.partition("; ")[2]
    assert err.count("\n") == 1


@pytest.mark.usefixtures("_no_processes")
def test_wrong_settings_are_answered_all_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["tabel=ablation", "jobs=0", "seeds=0,0", "scale", "mixed=yes", "runs=a", "runs=b"]) == 1
    assert capsys.readouterr().err.splitlines() == [
        "6 problems with the configuration:",
        "  - tabel=ablation: there is no setting tabel; allowed: table, scale, studies, seeds, jobs, launcher, "
        "minutes, runs, results, text, test_text, benchmarks, data_dir, mixed, retry_failed, train, corpus; did you "
        "mean table?",
        "  - jobs=0: jobs is '0'; allowed: a whole number from 1 on",
        "  - seeds=0,0: seeds is '0,0'; allowed: distinct whole numbers from 0 on, as in 0,1,2",
        "  - scale: settings are written key=value; did you mean scale=...?",
        "  - mixed=yes: mixed is 'yes'; allowed: true or false",
        "  - runs=b: runs is set twice; leave one of them out",
    ]


@pytest.mark.parametrize(
    ("setting", "words"), [("table=ablatoin", "did you mean ablation?"), ("scale=smokey", "did you mean smoke?")]
)
@pytest.mark.usefixtures("_no_processes")
def test_unknown_tables_and_scales(setting: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main([setting]) == 1
    assert words in capsys.readouterr().err


def test_settings_without_effect_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        command.main(["table=kernels", "studies=a", "seeds=1", "jobs=2", "mixed=true", "text=a.txt", "minutes=3"]) == 1
    )
    why = "has no effect on table=kernels, which has times and no runs"
    assert capsys.readouterr().err.splitlines() == [
        "6 problems with the configuration:",
        *(f"  - {key}: {why}" for key in ("jobs", "minutes", "studies", "seeds", "text", "mixed")),
    ]
    assert command.main(["train=false", "jobs=2", "retry_failed=true"]) == 1
    assert capsys.readouterr().err.splitlines()[1:] == [
        "  - jobs: has no effect with train=false",
        "  - retry_failed: has no effect with train=false",
    ]


def test_settings_left_empty_are_the_defaults() -> None:
    read = read_key_values(["table=", "jobs=", "seeds=3,1"], command.KEYS)
    assert read == {"seeds": (3, 1)}
    settings = command.TableSettings(**read)
    assert (settings.table, settings.scale, settings.jobs) == ("ablation", "cpu", None)


def test_help_names_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--help"]) == 0
    shown = capsys.readouterr().out
    for name in command.KEYS:
        assert f"\n  {name} " in shown
    for exit_code in ("0:", "1:", "130:"):
        assert f" {exit_code} " in shown


@pytest.mark.usefixtures("_no_processes")
def test_folders_with_any_name_can_be_used(run: Run, tmp_path: Path) -> None:
    odd = tmp_path / "it's, a [folder] = {x}"
    shutil.move(tmp_path / "runs", odd)
    code = command.main(["table=tiny", "scale=smoke", f"runs={odd}", f"results={tmp_path / 'results'}"])
    assert code == 0


def test_learning_rates_are_chosen_before_the_table_is_trained(
    tmp_path: Path, use_tables: UseTables, tiny_table: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rule = """
    learning_rates:
      mqar: {candidates: [1e-3, 1e-2], seeds: [0], share: 0.5, metric: valid/loss, direction: min}
"""
    (tmp_path / "tiny.yaml").write_text(tiny_table.replace("seeds: [0, 1]", "seeds: [0]").rstrip("\n") + rule)
    use_tables(tmp_path)
    places = [f"runs={tmp_path / 'runs'}", f"results={tmp_path / 'results'}"]
    assert command.main(["table=tiny", "scale=smoke", *places]) == 0
    out = capsys.readouterr().out
    # two rows, two candidates; then the rows themselves
    assert "choosing learning rates: 4 runs" in out
    cells = json.loads((tmp_path / "results" / "tiny" / "smoke" / "cells.json").read_text())
    for choice in cells["learning_rates"]:
        scores = {candidate["lr"]: candidate["score"] for candidate in choice["candidates"]}
        assert choice["lr"] == min(scores, key=scores.__getitem__)
    chosen = {choice["row"]: choice["lr"] for choice in cells["learning_rates"]}
    assert len(folders(tmp_path)) == 4 + 2
    for cell in cells["cells"]:
        config = RunFolder(tmp_path / "runs" / cell["runs"][0]["folder"]).read_config()
        assert config is not None
        assert (config["optim"]["lr"], config["trainer"]["max_steps"]) == (chosen[cell["row"]], 2)
    # again: nothing is trained
    assert command.main(["table=tiny", "scale=smoke", *places]) == 0
    assert "trained" not in capsys.readouterr().out.partition("written:")[0].partition("##")[0]


@pytest.mark.usefixtures("_no_processes")
def test_settings_for_all_tables_leave_those_alone_that_have_no_use_for_them(
    trained: Path, tmp_path: Path, use_tables: UseTables, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_tables(trained)
    measured: list[str] = []
    monkeypatch.setattr(command, "table_names", lambda: ["kernels", "tiny"])
    monkeypatch.setattr(command, "make_kernel_table", lambda spec, **_: measured.append(spec.name))
    words = [f"runs={trained / 'runs'}", f"results={tmp_path / 'results'}", f"data_dir={tmp_path}", "jobs=2"]
    assert command.main(["table=all", "scale=smoke", *words, "mixed=true", "minutes=5"]) == 0
    assert measured == ["kernels"]
    assert [path.name for path in (tmp_path / "results").iterdir()] == ["tiny"]


def test_all_tables_are_made_and_one_that_cannot_does_not_stop_the_others(
    trained: Path, tmp_path: Path, use_tables: UseTables, tiny_table: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, text in {"a": tiny_table.replace("title: ", "titel: "), "b": tiny_table}.items():
        (tmp_path / f"{name}.yaml").write_text(text)
    use_tables(tmp_path)
    code = command.main(["table=all", "scale=smoke", f"runs={trained / 'runs'}", f"results={tmp_path / 'results'}"])
    shown = capsys.readouterr()
    assert code == 1
    assert [path.name for path in (tmp_path / "results").iterdir()] == ["b"]
    assert shown.out.index("== a") < shown.out.index("== b") < shown.out.index("| **RDN** | full |")
    assert "1 tables have problems:\n  - a: " in shown.err
