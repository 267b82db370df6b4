"""A suite on a run: what is stored, what goes on after an interruption, what is left alone."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import statistics
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from lm_eval.api.metrics import bootstrap_stderr

from rla_exp.cli.evaluate import main
from rla_exp.config.locate import conf_dir
from rla_exp.config.suites import suite_kinds
from rla_exp.errors import ConfigError, DataError
from rla_exp.eval import lm_eval_tasks
from rla_exp.eval.adapter import RlaLM
from rla_exp.eval.evaluate import EvaluationSettings, evaluate_run
from rla_exp.eval.niah import NEEDLE_TASKS
from rla_exp.eval.quiet import lm_eval_in_one_process
from rla_exp.eval.restore import LoadedRun, load_run
from rla_exp.eval.scoring import Request
from rla_exp.eval.suite import LmEvalSuite, MqarSuite, NeedleSuite, load_suite, read_suite
from rla_exp.runs.evaluations import read_evaluation, read_scores

SMOKE = ["smoke_choice", "smoke_last_word", "smoke_document", "smoke_completion"]


def arc_files(folder: Path, count: int = 6, missing_at: int | None = None) -> Path:
    """Questions in the form of arc_easy's."""
    file = folder / "arc_easy" / "test.jsonl"
    file.parent.mkdir(parents=True)
    lines = []
    for number in range(count):
        choices = {"text": ["the garden", "the document", f"number {number}"], "label": ["A", "B", "C"]}
        document = {"question": f"What says document {number}?", "choices": choices, "answerKey": "ABC"[number % 3]}
        if number == missing_at:
            del document["answerKey"]
        lines.append(json.dumps(document))
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def test_smoke_suite_is_stored_with_all_that_it_follows_from(loaded: LoadedRun) -> None:
    evaluate_run(loaded, "smoke", load_suite("smoke"))
    stored = read_evaluation(loaded.folder.path, "smoke")
    assert stored is not None
    assert list(stored.tasks) == SMOKE
    assert stored.settings["context"] == "full"
    assert stored.settings["lm_eval"] == version("lm_eval")
    assert stored.settings["tokenizer"] == f"bpe-{loaded.vocab_size}"
    assert stored.settings["checkpoint_sha256"] == loaded.checkpoint_sha256
    choice = stored.tasks["smoke_choice"]
    assert (choice.version, choice.n, choice.data) == (1.0, 16, "generated")
    accuracy = choice.metrics["acc"]
    # sample variance over 16 answers of 0 or 1
    expected = (accuracy.value * (1 - accuracy.value) / 15) ** 0.5
    assert accuracy.stderr == pytest.approx(expected)
    assert accuracy.higher_is_better is True
    assert stored.tasks["smoke_last_word"].metrics["perplexity"].higher_is_better is False
    scores = read_scores(loaded.folder.path)
    assert scores["eval/smoke/smoke_choice/acc"] == accuracy
    # bits per byte of the documents, from the log-probabilities of the tokens
    documents = [
        doc["story"] for doc in lm_eval_tasks.task_manager(SMOKE).load(SMOKE)["tasks"]["smoke_document"].test_docs()
    ]
    model = RlaLM(loaded)
    nats = [
        model.scorer.score([Request([model.eot_token_id], model.tok_encode(text))])[0].log_prob for text in documents
    ]
    bits = -sum(nats) / np.log(2) / sum(len(text.encode()) for text in documents)
    assert scores["eval/smoke/smoke_document/bits_per_byte"].value == pytest.approx(bits, rel=1e-6)


def test_an_interrupted_evaluation_goes_on(loaded: LoadedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    original = lm_eval_tasks.run_task

    def interrupted(model: RlaLM, name: str, *rest: Any) -> Any:
        asked.append(name)
        if len(asked) == 3:
            raise KeyboardInterrupt
        return original(model, name, *rest)

    monkeypatch.setattr(lm_eval_tasks, "run_task", interrupted)
    suite = load_suite("smoke")
    with pytest.raises(KeyboardInterrupt):
        evaluate_run(loaded, "smoke", suite)
    stored = read_evaluation(loaded.folder.path, "smoke")
    assert stored is not None
    assert list(stored.tasks) == SMOKE[:2]
    told: list[str] = []
    finished = evaluate_run(loaded, "smoke", suite, tell=told.append)
    assert asked == [*SMOKE[:3], *SMOKE[2:]]
    assert list(finished.tasks) == SMOKE
    assert finished.tasks["smoke_choice"] == stored.tasks["smoke_choice"]
    assert [line.endswith("evaluated before") for line in told] == [True, True, False, False]


def test_random_numbers_are_left_alone(loaded: LoadedRun) -> None:
    states = []
    for evaluating in (False, True):
        random.seed(1)
        np.random.seed(1)
        torch.manual_seed(1)
        if evaluating:
            evaluate_run(loaded, "smoke", load_suite("smoke"), EvaluationSettings(limit=4))
        states.append((random.random(), np.random.random(), torch.rand(()).item()))
    assert states[0] == states[1]


def test_batch_size_changes_no_score(loaded: LoadedRun) -> None:
    found = []
    for batch_size in (1, 16):
        settings = EvaluationSettings(batch_size=batch_size)
        evaluation = evaluate_run(loaded, f"smoke{batch_size}", load_suite("smoke"), settings)
        found.append({(t, m): s.value for t, scores in evaluation.tasks.items() for m, s in scores.metrics.items()})
    assert found[1] == pytest.approx(found[0], rel=1e-4)
    assert found[0]["smoke_choice", "acc"] == found[1]["smoke_choice", "acc"]


def test_local_files_take_the_place_of_the_hub(loaded: LoadedRun, tmp_path: Path) -> None:
    data_dir = arc_files(tmp_path / "data")
    suite = LmEvalSuite(kind="lm_eval", tasks=["arc_easy"])
    scores = evaluate_run(loaded, "tasks", suite, EvaluationSettings(data_dir=data_dir)).tasks["arc_easy"]
    assert scores.n == 6
    assert scores.data.startswith("files:")
    # lm-eval's prompt, and the likeliest choice by hand
    model = RlaLM(loaded)
    right = 0
    for number in range(6):
        choices = [" the garden", " the document", f" number {number}"]
        context = model.tok_encode(f"Question: What says document {number}?\nAnswer:")
        requests = [
            Request(context, model.tok_encode(f"Question: What says document {number}?\nAnswer:{c}")[len(context) :])
            for c in choices
        ]
        nats = [score.log_prob for score in model.scorer.score(requests)]
        right += int(np.argmax(nats)) == number % 3
    assert scores.metrics["acc"].value == pytest.approx(right / 6)


def test_missing_files_and_fields_are_named(loaded: LoadedRun, tmp_path: Path) -> None:
    data_dir = arc_files(tmp_path / "data", missing_at=4)
    suite = LmEvalSuite(kind="lm_eval", tasks=["arc_easy", "lambada_openai", "boolq"])
    settings = EvaluationSettings(data_dir=data_dir)
    with pytest.raises(DataError, match=r"arc_easy/test\.jsonl, line 5: the field answerKey is missing"):
        evaluate_run(loaded, "tasks", suite, settings)
    with pytest.raises(DataError) as error:
        evaluate_run(loaded, "tasks", replace(suite, tasks=suite.tasks[1:]), settings)
    assert f"lambada_openai: {data_dir}/lambada_openai/test.jsonl, with the fields text" in str(error.value)
    assert f"boolq: {data_dir}/boolq/validation.jsonl, with the fields label, passage, question" in str(error.value)


def test_without_network_and_files_the_error_says_what_is_wanted(
    loaded: LoadedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*_: Any, **__: Any) -> None:
        raise ConnectionError("the hub cannot be reached")

    monkeypatch.setattr("datasets.load_dataset", unreachable)
    with pytest.raises(DataError) as error:
        evaluate_run(loaded, "tasks", LmEvalSuite(kind="lm_eval", tasks=["piqa"]))
    assert "ConnectionError: the hub cannot be reached" in str(error.value)
    assert "piqa: <data_dir>/piqa/validation.jsonl, with the fields goal, label, sol1, sol2" in str(error.value)


def test_needles_are_stored_by_length_and_depth(loaded: LoadedRun) -> None:
    tasks = ["needle_single_1"]
    suite = NeedleSuite(
        kind="niah", tasks=tasks, lengths=[320, 384], depths=[0.0, 1.0], num_samples=2, max_new_tokens=8
    )
    scores = evaluate_run(loaded, "niah", suite).tasks["needle_single_1"]
    assert scores.n == 8
    assert [(cell["length"], cell["depth"], cell["n"]) for cell in scores.details] == [
        (320, 0.0, 2),
        (320, 1.0, 2),
        (384, 0.0, 2),
        (384, 1.0, 2),
    ]
    assert set(scores.metrics) == {"accuracy", "accuracy@320", "accuracy@384"}
    with pytest.raises(ConfigError, match=r"data_dir=\.: has no effect"):
        evaluate_run(loaded, "niah", suite, EvaluationSettings(data_dir=Path()))


def test_mqar_equals_the_runs_own_test(mqar_run: Path, tmp_path: Path) -> None:
    run = load_run(mqar_run)
    result = run.folder.read_result()
    assert result is not None
    scores = evaluate_run(run, "mqar", MqarSuite(kind="mqar")).tasks["mqar"]
    assert scores.n == 48
    for name in ("accuracy", "accuracy@2", "accuracy@4"):
        assert scores.metrics[name].value == pytest.approx(result.metrics[f"test/{name}"], abs=1e-6)


def test_settings_without_effect_are_refused(mqar_run: Path, loaded: LoadedRun, tmp_path: Path) -> None:
    settings = EvaluationSettings(batch_size=8, context="full")
    with pytest.raises(ConfigError) as error:
        evaluate_run(load_run(mqar_run), "mqar", MqarSuite(kind="mqar"), settings)
    assert [problem.partition(":")[0] for problem in error.value.problems] == ["context=full", "batch_size=8"]
    with pytest.raises(ConfigError, match="has no effect with these tasks, whose documents are generated"):
        evaluate_run(loaded, "smoke", load_suite("smoke"), EvaluationSettings(data_dir=tmp_path))
    with pytest.raises(ConfigError, match="data_dir=nowhere: there is no such folder"):
        evaluate_run(loaded, "smoke", load_suite("smoke"), EvaluationSettings(data_dir=Path("nowhere")))


def test_mqar_needs_a_run_of_it(loaded: LoadedRun) -> None:
    with pytest.raises(ConfigError, match="knows no MQAR tokens"):
        evaluate_run(loaded, "mqar", MqarSuite(kind="mqar"))


def test_every_suite_reads_and_knows_its_tasks() -> None:
    suites = {name: load_suite(name) for name in suite_kinds()}
    assert set(suites) == {"language", "recall", "recall_in_context", "niah", "niah_short", "mqar", "smoke"}
    described = (Path(__file__).parents[2] / "docs" / "evaluation.md").read_text(encoding="utf-8")
    assert [name for name in suites if f"| `{name}` |" not in described] == []
    for name in ("recall", "recall_in_context", "smoke"):
        suite = suites[name]
        assert isinstance(suite, LmEvalSuite)
        manager = lm_eval_tasks.task_manager(suite.tasks)
        assert set(suite.tasks) <= set(manager.task_index)


def test_a_suite_with_problems_names_them_all() -> None:
    with pytest.raises(ConfigError) as error:
        read_suite({"kind": "lm_eval", "tasks": [], "num_fewshots": 1}, Path("some.yaml"))
    assert len(error.value.problems) == 2


def test_command(loaded: LoadedRun, capsys: pytest.CaptureFixture[str]) -> None:
    run = loaded.folder.path
    assert main([f"run={run}", "tasks=smoke_choice", "limit=3", "device=cpu"]) == 0
    out = capsys.readouterr().out
    assert "smoke_choice: acc" in out
    assert f"written: {run}/evaluations/tasks.json" in out
    assert main([f"run={run}", "tasks=smoke_choice", "limit=3"]) == 0
    assert "evaluated before" in capsys.readouterr().out
    assert main(["--help"]) == 0


def test_command_tells_what_is_wrong(loaded: LoadedRun, capsys: pytest.CaptureFixture[str]) -> None:
    run = loaded.folder.path
    for words, message in (
        ([], "run is not set"),
        ([f"run={run}"], "set one of eval=SUITE and tasks=NAMES"),
        ([f"run={run}", "eval=smok"], "did you mean smoke?"),
        ([f"run={run}", "eval=smoke", "context=half"], "must be full, or windowed(N)"),
        ([f"run={run}x", "eval=smoke"], "there is no such folder"),
        ([f"run={run}", "eval=smoke", "limit=0"], "limit is '0'; allowed: a whole number from 1 on"),
    ):
        assert main(words) == 1
        assert message in capsys.readouterr().err


@pytest.mark.slow
def test_unknown_tasks_are_answered_with_near_ones() -> None:
    with pytest.raises(ConfigError) as error:
        lm_eval_tasks.task_manager(["arc_esay", "piqa", "lambada_opnai"])
    assert len(error.value.problems) == 2
    assert "did you mean arc_easy or" in error.value.problems[0]


def test_standard_errors_need_no_forks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fork of a process with threads, as a training one has, can wait forever for a lock."""
    monkeypatch.setattr(multiprocessing, "Pool", lambda *_: pytest.fail("forked"))
    with lm_eval_in_one_process():
        assert bootstrap_stderr(statistics.fmean, [0.0, 1.0] * 50, iters=200) == pytest.approx(0.05, abs=0.02)
    assert "DISABLE_MULTIPROC" not in os.environ


@pytest.mark.parametrize("table", ["backbones", "recall"])
def test_tables_show_metrics_that_the_suites_tasks_have(table: str) -> None:
    columns = yaml.safe_load((conf_dir() / "table" / f"{table}.yaml").read_text(encoding="utf-8"))["columns"]
    shown = [column for column in columns.values() if column["kind"] == "score"]
    assert shown
    for column in shown:
        suite = load_suite(column["suite"])
        task, metric = column["metric"].split("/")
        if isinstance(suite, NeedleSuite):
            assert task in NEEDLE_TASKS
            assert metric == "accuracy"
            continue
        assert isinstance(suite, LmEvalSuite)
        assert task in suite.tasks
        # mmlu is the mean of tasks that are described alike; to find a group takes 20 seconds
        name = "mmlu_anatomy" if task == "mmlu" else task
        config = lm_eval_tasks.task_config(lm_eval_tasks.task_manager([name]), name)
        # tasks that are classes say in their code what they measure
        metrics = {"contains"} if "class" in config else {found["metric"] for found in config["metric_list"]}
        assert metric in metrics
