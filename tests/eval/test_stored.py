"""What of a stored evaluation stands when it is asked for again."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rla_exp.errors import RunError
from rla_exp.eval import lm_eval_tasks, task_names
from rla_exp.eval.adapter import RlaLM
from rla_exp.eval.evaluate import EvaluationSettings, evaluate_run
from rla_exp.eval.restore import LoadedRun
from rla_exp.eval.suite import LmEvalSuite, NeedleSuite, load_suite
from rla_exp.runs.evaluations import read_evaluation, write_evaluation

SMOKE = ["smoke_choice", "smoke_last_word", "smoke_document", "smoke_completion"]


def questions(data_dir: Path, task: str, count: int) -> Path:
    """Documents in the form of ARC's."""
    file = data_dir / task / "test.jsonl"
    file.parent.mkdir(parents=True)
    choices = {"text": ["the garden", "the document"], "label": ["A", "B"]}
    documents = [{"question": f"Which is {number}?", "choices": choices, "answerKey": "A"} for number in range(count)]
    file.write_text("".join(json.dumps(document) + "\n" for document in documents), encoding="utf-8")
    return data_dir


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names that were scored, in their order."""
    names: list[str] = []
    original = lm_eval_tasks.run_task

    def noted(model: RlaLM, name: str, *rest: Any) -> Any:
        names.append(name)
        return original(model, name, *rest)

    monkeypatch.setattr(lm_eval_tasks, "run_task", noted)
    return names


def test_other_documents_are_not_taken_for_those_asked_for(loaded: LoadedRun, tmp_path: Path, asked: list[str]) -> None:
    suite = LmEvalSuite(kind="lm_eval", tasks=["smoke_choice", "arc_easy"])
    first = EvaluationSettings(data_dir=questions(tmp_path / "A", "arc_easy", 2))
    other = EvaluationSettings(data_dir=questions(tmp_path / "B", "arc_easy", 3))
    assert evaluate_run(loaded, "some", suite, first).tasks["arc_easy"].n == 2
    with pytest.raises(RunError) as error:
        evaluate_run(loaded, "some", suite, other)
    assert "documents of arc_easy: files:" in str(error.value)
    assert f"({tmp_path}/B/arc_easy/test.jsonl) now" in str(error.value)
    assert "overwrite=true" in str(error.value)
    assert "smoke_choice" not in str(error.value)
    # what is not asked for is not compared
    evaluate_run(loaded, "some", replace(suite, tasks=["smoke_choice"]))
    # and what stands is not scored again
    again = evaluate_run(loaded, "some", suite, replace(other, overwrite=True))
    assert again.tasks["arc_easy"].n == 3
    assert asked == ["smoke_choice", "arc_easy", "arc_easy"]
    # the same documents in another folder are the same
    evaluate_run(loaded, "some", suite, EvaluationSettings(data_dir=questions(tmp_path / "C", "arc_easy", 3)))
    assert len(asked) == 3


def test_scores_of_other_settings_are_not_mixed(loaded: LoadedRun) -> None:
    suite = LmEvalSuite(kind="lm_eval", tasks=["smoke_choice"])
    evaluate_run(loaded, "some", suite)
    other = EvaluationSettings(context="windowed(16)")
    with pytest.raises(RunError, match=r"context: full then, windowed\(16\) now"):
        evaluate_run(loaded, "some", suite, other)
    evaluation = evaluate_run(loaded, "some", suite, replace(other, overwrite=True))
    assert evaluation.settings["context"] == "windowed(16)"


def test_a_haystack_of_another_text_is_another_setting(loaded: LoadedRun, tmp_path: Path) -> None:
    haystack = tmp_path / "prose.txt"
    haystack.write_text("It rains here. It snows there.", encoding="utf-8")
    suite = NeedleSuite(
        kind="niah",
        tasks=["needle_single_2"],
        lengths=[320],
        depths=[0.5],
        num_samples=1,
        max_new_tokens=4,
        haystack=str(haystack),
    )
    evaluate_run(loaded, "needles", suite)
    evaluate_run(loaded, "needles", suite)
    haystack.write_text("It rains here. It hails there.", encoding="utf-8")
    with pytest.raises(RunError, match=r"haystack: prose\.txt:[0-9a-f]{12}\.\.\. then, prose\.txt:[0-9a-f]{12}"):
        evaluate_run(loaded, "needles", suite)


def test_an_interrupted_overwriting_goes_on(loaded: LoadedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    suite = load_suite("smoke")
    evaluate_run(loaded, "smoke", suite, EvaluationSettings(limit=1))
    names: list[str] = []
    original = lm_eval_tasks.run_task

    def interrupted(model: RlaLM, name: str, *rest: Any) -> Any:
        names.append(name)
        if len(names) == 3:
            raise KeyboardInterrupt
        return original(model, name, *rest)

    monkeypatch.setattr(lm_eval_tasks, "run_task", interrupted)
    settings = EvaluationSettings(limit=2, overwrite=True)
    with pytest.raises(KeyboardInterrupt):
        evaluate_run(loaded, "smoke", suite, settings)
    finished = evaluate_run(loaded, "smoke", suite, settings)
    assert names == [*SMOKE[:3], *SMOKE[2:]]
    assert {task: scores.n for task, scores in finished.tasks.items()} == dict.fromkeys(SMOKE, 2)


@pytest.mark.parametrize("origin", ["sources", "device", "torch"])
def test_scores_of_other_origin_are_not_mixed(loaded: LoadedRun, origin: str) -> None:
    suite = LmEvalSuite(kind="lm_eval", tasks=["smoke_choice"])
    made = evaluate_run(loaded, "some", suite, EvaluationSettings(limit=2))
    old = replace(made, provenance={**made.provenance, origin: "another", "git": None})
    write_evaluation(loaded.folder.path, old)
    more = replace(suite, tasks=["smoke_choice", "smoke_document"])
    with pytest.raises(RunError, match=f"{origin}: another then"):
        evaluate_run(loaded, "some", more, EvaluationSettings(limit=2))
    assert read_evaluation(loaded.folder.path, "some") == old
    anew = evaluate_run(loaded, "some", more, EvaluationSettings(limit=2, overwrite=True))
    assert anew.provenance == made.provenance
    assert set(anew.tasks) == {"smoke_choice", "smoke_document"}


def test_two_commands_at_once_keep_each_others_tasks(loaded: LoadedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    suite = LmEvalSuite(kind="lm_eval", tasks=["smoke_choice"])
    original = lm_eval_tasks.run_task

    def beside_another(model: RlaLM, name: str, *rest: Any) -> Any:
        if name == "smoke_choice":
            evaluate_run(loaded, "some", replace(suite, tasks=["smoke_document"]))
        return original(model, name, *rest)

    monkeypatch.setattr(lm_eval_tasks, "run_task", beside_another)
    evaluate_run(loaded, "some", suite)
    stored = read_evaluation(loaded.folder.path, "some")
    assert stored is not None
    assert set(stored.tasks) == {"smoke_choice", "smoke_document"}


def test_documents_of_the_hub_are_named_whatever_names_them() -> None:
    names = ["swde", "squad_completion", "arc_easy", "smoke_choice"]
    suite = LmEvalSuite(kind="lm_eval", tasks=names)
    with lm_eval_tasks.open_tasks(names, suite, None) as source:
        data = {name: lm_eval_tasks.stored_entries(name, source)[name].data for name in names}
    # the first two are classes that have the name in their code
    assert data == {
        "swde": "hub:hazyresearch/based-swde-v2",
        "squad_completion": "hub:hazyresearch/based-squad",
        "arc_easy": "hub:allenai/ai2_arc",
        "smoke_choice": "generated",
    }


def test_a_tag_is_finished_with_its_members(
    loaded: LoadedRun, tmp_path: Path, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # the folder of its members is enough; to look for a tag in all of lm-eval's takes 20 seconds
    files = task_names._files_of_tasks()
    monkeypatch.setattr(task_names, "_files_of_tasks", lambda: {**files, "ai2_arc": files["arc_easy"]})
    questions(tmp_path, "arc_easy", 2)
    settings = EvaluationSettings(data_dir=questions(tmp_path, "arc_challenge", 3))
    suite = LmEvalSuite(kind="lm_eval", tasks=["ai2_arc"])
    told: list[str] = []
    found = evaluate_run(loaded, "tasks", suite, settings, tell=told.append)
    assert {name: scores.n for name, scores in found.tasks.items()} == {"arc_easy": 2, "arc_challenge": 3}
    assert [line.partition(":")[0] for line in told] == ["arc_challenge", "arc_easy"]
    told.clear()
    evaluate_run(loaded, "tasks", suite, settings, tell=told.append)
    assert asked == ["ai2_arc"]
    assert [line.endswith("evaluated before") for line in told] == [True, True]
    del found.tasks["arc_easy"]
    write_evaluation(loaded.folder.path, found)
    evaluate_run(loaded, "tasks", suite, settings)
    assert asked == ["ai2_arc", "ai2_arc"]
