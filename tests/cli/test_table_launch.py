"""Where the table command trains and evaluates: on this machine, on a cluster, and for how long."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from rla_exp.cli import table as command
from rla_exp.cli.table_runs import ExpectedSeconds
from rla_exp.report import RunRequest
from rla_exp.runs import Result, RunFolder, Status
from rla_exp.sweep import Job

UseTables = Callable[[Path], None]
Run = Callable[..., tuple[int, str, str]]

SCORED = """
  document:
    {kind: score, study: text, suite: smoke, label: document, metric: smoke_document/bits_per_byte, format: .3f}
  needle:
    {kind: score, study: text, suite: niah, label: needle, metric: needle_single_1/accuracy, format: .3f}
  wikitext:
    {kind: score, study: text, suite: language, label: WikiText, metric: wikitext/word_perplexity, format: .2f}
  lambada:
    {kind: score, study: text, suite: language, label: LAMBADA, metric: lambada_openai/acc, format: .3f,
     scales: [], scales_with_data: [smoke]}
  piqa:
    {kind: score, study: text, suite: language, label: PIQA, metric: piqa/acc, format: .3f,
     scales: [], scales_with_data: [smoke]}
"""


@pytest.fixture
def scored_table(tiny_table: str, tmp_path: Path) -> Path:
    """A folder with a table of one run on text, with scores of suites."""
    head, _, scales = tiny_table.partition("scales:\n")
    lines = [line for line in head.splitlines() if "data." not in line and "accuracy" not in line]
    text = "\n".join(line.replace("data=mqar", "data=stdlib_docs") for line in lines)
    text = text.replace("mqar: {label: MQAR}", "text: {label: Text}")
    columns = (
        "columns:\n  bits:\n    {kind: metric, study: text, label: bits, metric: test/bits_per_byte, direction: min, "
        "format: .3f, figure: true}" + SCORED
    )
    before, _, _ = text.partition("columns:")
    scales = scales.replace("mqar: {}", "text: {rows: [full]}")
    scales = scales.replace("seeds: [0, 1]", "seeds: [0]\n    evaluation_limits: {smoke: 1}")
    settings = "data.seq_len=32, data.batch_size=4, data.eval_batch_size=4, data.max_eval_tokens=256"
    scales = scales.replace("trainer.max_steps=2", f"trainer.max_steps=2, {settings}")
    folder = tmp_path / "tables"
    folder.mkdir()
    (folder / "tiny.yaml").write_text(f"{before}{columns}scales:\n{scales}")
    return folder


def lambada(folder: Path, text: str = "The cat sat on the mat") -> Path:
    """A data_dir that has one task."""
    (folder / "lambada_openai").mkdir(parents=True)
    (folder / "lambada_openai" / "test.jsonl").write_text(json.dumps({"text": text}) + "\n")
    return folder


def test_a_table_is_trained_and_evaluated_on_submitits_local_executor(
    scored_table: Path, tmp_path: Path, use_tables: UseTables, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("submitit")
    use_tables(scored_table)
    words = ["table=tiny", "scale=smoke", f"runs={tmp_path / 'runs'}", f"results={tmp_path / 'results'}", "jobs=2"]
    cluster = ["launcher=slurm", "hydra.launcher.cluster=local", "hydra.launcher.gpu=false"]
    data = f"data_dir={lambada(tmp_path / 'data')}"
    assert command.main([*words, *cluster, data]) == 0, capsys.readouterr()
    shown = capsys.readouterr().out
    assert "1 runs: 1 trained" in shown
    assert "evaluating" not in shown
    (folder,) = (tmp_path / "runs").glob("*/*/seed0")
    # one job trained the run and evaluated it while its model was at hand
    assert len(list((tmp_path / "runs" / ".submitit").glob("*_result.pkl"))) == 1
    assert json.loads((folder / "cluster_job.json").read_text())["cluster"] == "local"
    # of each suite the tasks that the table shows, and of them those that data_dir has
    tasks = {file.stem: set(json.loads(file.read_text())["tasks"]) for file in (folder / "evaluations").glob("*.json")}
    assert tasks == {"smoke": {"smoke_document"}, "niah": {"needle_single_1"}, "language": {"lambada_openai"}}
    table = (tmp_path / "results" / "tiny" / "smoke" / "table.md").read_text()
    # what the scale shows whatever the data are is told
    assert "Not evaluated: WikiText." in table
    assert "LAMBADA" in table
    assert "PIQA" not in table
    assert "missing" not in table

    # scores that are lost, or were not to be had, are made after the sweep
    for suite in ("niah", "language"):
        (folder / "evaluations" / f"{suite}.json").unlink()
    assert command.main([*words, *cluster, data]) == 0, capsys.readouterr()
    assert "[1/1] done rdn/full text seed 0 niah language" in capsys.readouterr().out
    assert len(list((tmp_path / "runs" / ".submitit").glob("*_result.pkl"))) == 2
    assert (tmp_path / "results" / "tiny" / "smoke" / "table.md").read_text() == table

    # other documents are not taken for those that are stored
    other = lambada(tmp_path / "other", text="Another text ends otherwise")
    assert command.main([*words, f"data_dir={other}"]) == 1
    told = capsys.readouterr().err
    assert "1 runs could not be evaluated" in told
    assert "documents of lambada_openai: files:" in told
    assert "remove that file" in told

    # elsewhere there is neither the folder of data nor the cluster; the scores are those of the run
    shutil.rmtree(tmp_path / "results")
    assert command.main([*words[:4], "train=false"]) == 0
    assert (tmp_path / "results" / "tiny" / "smoke" / "table.md").read_text() == table


def test_a_data_dir_that_does_nothing_is_refused(
    scored_table: Path, tmp_path: Path, use_tables: UseTables, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(["table=backbones", f"data_dir={tmp_path / 'none'}"]) == 1
    assert f"data_dir={tmp_path / 'none'}: there is no such folder" in capsys.readouterr().err
    words = [f"runs={tmp_path / 'runs'}", f"results={tmp_path / 'results'}", f"data_dir={tmp_path}"]
    assert command.main(["table=ablation", "scale=smoke", *words]) == 1
    told = capsys.readouterr().err
    assert f"data_dir={tmp_path}: has no effect on table ablation at scale smoke; it shows no scores" in told
    use_tables(scored_table)
    assert command.main(["table=tiny", "scale=smoke", *words]) == 1
    tasks = "lambada_openai, needle_single_1, piqa, smoke_document, wikitext"
    assert f"at scale smoke; of {tasks} none that reads files has a folder in it" in capsys.readouterr().err
    # nothing was trained
    assert not list((tmp_path / "runs").glob("*/*/*"))


def test_settings_of_the_launcher_are_checked(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["launcher=slrum"]) == 1
    assert "did you mean slurm?" in capsys.readouterr().err
    assert command.main(["launcher=slurm", "hydra.launcher.partitoin=gpu", "jobs=2", "hydra.launcher.jobs=3"]) == 1
    shown = capsys.readouterr().err
    assert "did you mean hydra.launcher.partition?" in shown
    assert "jobs=2: hydra.launcher.jobs says it too" in shown
    assert command.main(["hydra.launcher.partition=gpu"]) == 1
    assert "there is no setting hydra.launcher.partition" in capsys.readouterr().err
    assert command.main(["launcher=slurm", "minutes=9", "corpus=ab"]) == 1
    shown = capsys.readouterr().err
    assert "minutes: has no effect on a cluster" in shown
    assert "corpus=ab: has no effect without train=false" in shown
    assert command.main(["train=false", "minutes=1", "jobs=2"]) == 1
    assert "minutes: has no effect with train=false" in capsys.readouterr().err


def test_out_of_time_no_table_is_written_and_the_same_command_goes_on(run: Run, tmp_path: Path) -> None:
    for folder in sorted((tmp_path / "runs").glob("*/*/seed1")):
        shutil.rmtree(folder)
    # nothing begins in a thousandth of a minute
    code, out, err = run("minutes=0.00001")
    assert code == 130
    assert err == "2 of 4 runs are left; the table was not written, and the same command goes on\n"
    assert "2 finished before, 2 interrupted" in out
    assert not list((tmp_path / "results" / "tiny" / "smoke").iterdir())
    assert run("minutes=30")[0] == 0


def test_time_is_expected_by_finished_runs_of_the_row(tmp_path: Path) -> None:
    def job(row: str, seed: int, steps: int = 100) -> tuple[RunRequest, Job]:
        resolved = {"trainer": {"max_steps": steps}}
        folder = tmp_path / f"{row}{seed}"
        return RunRequest((), row, "mqar", seed), Job(
            overrides=(), folder=folder, work=time.time, resolved=resolved, label=f"{row}{seed}"
        )

    def finish(job: Job, seconds: float) -> None:
        RunFolder(job.folder).create()
        RunFolder(job.folder).write_result(Result({}, {"seconds": seconds}, {}))

    jobs = dict([job("slow", 0), job("slow", 1), job("fast", 0), job("fast", 1, steps=200), job("new", 0)])
    slow0, slow1, fast0, fast1, new = jobs.values()
    assert ExpectedSeconds(jobs)(slow1) is None
    finish(slow0, 100.0)
    finish(fast0, 10.0)
    expected = ExpectedSeconds(jobs)
    assert (expected(slow1), expected(fast1)) == (100.0, 20.0)
    # a row of which nothing is finished: the study's median
    assert expected(new) == pytest.approx(55.0)
    # what is trained already is not to be done again
    RunFolder(fast1.folder).create()
    RunFolder(fast1.folder).write_status(Status(state="interrupted", step=150, max_steps=200))
    assert expected(fast1) == pytest.approx(5.0)


def test_local_text_takes_the_place_of_the_corpus(
    scored_table: Path, tmp_path: Path, use_tables: UseTables, capsys: pytest.CaptureFixture[str]
) -> None:
    file = scored_table / "tiny.yaml"
    described = file.read_text()
    begin, end = described.index("  document:\n"), described.index("scales:\n")
    described = described[:begin] + described[end:].replace("caption: Two", 'corpus: docs\n    caption: "{corpus}. Two')
    described = described.replace("    evaluation_limits: {smoke: 1}\n", "")
    file.write_text(described.replace("steps.\n", 'steps."\n', 1))
    use_tables(scored_table)
    texts = tmp_path / "texts"
    texts.mkdir()
    (texts / "train.txt").write_text("".join(f"line {i} of what is trained on\n" for i in range(2000)))
    for name in ("held-gov", "held-fiction"):
        (texts / f"{name}.txt").write_text(f"what {name} says, " * 40)
    words = ["table=tiny", "scale=smoke", f"runs={tmp_path / 'runs'}", f"results={tmp_path / 'results'}"]
    local = [f"text={texts}/train.txt", f"test_text={texts}/held-*.txt"]
    assert command.main([*words, *local]) == 0, capsys.readouterr()
    table = (tmp_path / "results" / "tiny" / "smoke" / "table.md").read_text()
    assert r"local text (train.txt, tested on held-\*.txt)" in table
    assert "bits, fiction ↓" in table
    assert "bits, gov ↓" in table
    (result,) = (tmp_path / "runs").glob("*/*/seed0/result.json")
    assert f"corpus of Text {json.loads(result.read_text())['provenance']['corpus_sha256'][:12]}" in table
    # the same words where these files are not, which are not read
    shutil.rmtree(texts)
    shutil.rmtree(tmp_path / "results")
    assert command.main([*words, *local, "train=false"]) == 0
    assert (tmp_path / "results" / "tiny" / "smoke" / "table.md").read_text() == table
    # the corpus of the table's own has no runs here
    capsys.readouterr()
    assert command.main([*words, "train=false"]) == 1
    assert "1 of 1 runs are not below" in capsys.readouterr().err
