"""Tasks of every kind on local files: lm-eval's classes and groups, and our in-context recall."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from lm_eval.api.instance import Instance

from rla_exp.errors import DataError
from rla_exp.eval.adapter import RlaLM
from rla_exp.eval.evaluate import EvaluationSettings, evaluate_run
from rla_exp.eval.lm_eval_tasks import _scores
from rla_exp.eval.local_files import wanted_splits
from rla_exp.eval.restore import LoadedRun
from rla_exp.eval.suite import LmEvalSuite, load_suite
from rla_exp.eval.task_names import leaf_names, own_num_fewshot, task_config, task_manager
from rla_exp.eval.tasks.in_context import cloze, passage_and_question, score_answers, score_value, text_and_key


def write(data_dir: Path, task: str, split: str, documents: list[dict[str, Any]]) -> None:
    folder = data_dir / task
    folder.mkdir(parents=True, exist_ok=True)
    lines = "".join(json.dumps(document) + "\n" for document in documents)
    (folder / f"{split}.jsonl").write_text(lines, encoding="utf-8")


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every completion is " Rome, of course"; the prompts that were asked, in their order."""
    prompts: list[str] = []

    def generate_until(_model: RlaLM, requests: Sequence[Instance], **_: Any) -> list[str]:
        prompts.extend(str(request.args[0]) for request in requests)
        for request in requests:
            # lm-eval 0.4.13 gives squad_completion the defaults of all its tasks, not those in the task's own code
            until, length = ("\n\n", 256) if request.task_name == "squad_completion" else ("\n", 48)
            if request.task_name in ("gsm8k", "triviaqa"):
                continue
            assert request.args[1]["until"] == [until]
            assert request.args[1]["max_gen_toks"] == length
        return [" Rome, of course"] * len(requests)

    monkeypatch.setattr(RlaLM, "generate_until", generate_until)
    return prompts


# documents with the fields of the published ones, the prompt that each makes, and whether "Rome" is right
QUESTION = {"context": "The capital is Rome. The capital is", "question": "The capital is"}
IN_CONTEXT = {
    "in_context_swde": [
        (
            {
                "doc_id": "0.htm",
                "key": "capital",
                "value": "Rome",
                "text": "Italy. The capital is Rome.\n\nSummary of information above... \ncapital:",
            },
            "Italy. The capital is Rome. Capital:",
            1,
        ),
        ({"doc_id": "1.htm", "key": "river", "value": "Tiber", "text": "Tiber\nriver:"}, "Tiber. River:", 0),
    ],
    "in_context_fda": [
        (
            {"doc_id": "a.txt", "key": "place", "value": " ROME\n", "text": "Place: Rome \n place:"},
            "Place: Rome. Place:",
            1,
        ),
    ],
    "in_context_squad": [
        (
            {"doc_id": "b", "text": " Rome is the capital. The capital is ", "value": "Rome"},
            "Rome is the capital. The capital is",
            1,
        ),
    ],
    "in_context_drop": [({**QUESTION, "answers": ["Paris", "rome"]}, "The capital is Rome. The capital is", 1)],
    "in_context_nq": [
        ({**QUESTION, "answers": ["Paris"]}, "The capital is Rome. The capital is", 0),
        ({"context": "It rains.", "question": "It", "answers": []}, "It rains. It", 0),
    ],
    "in_context_triviaqa": [
        (
            {**QUESTION, "context": "[DOC] [TLE] Italy [PAR] Rome", "answers": ["Rome"]},
            "Italy  Rome. The capital is",
            1,
        ),
    ],
}


def test_in_context_recall_of_published_fields(loaded: LoadedRun, tmp_path: Path, answering: list[str]) -> None:
    for task, cases in IN_CONTEXT.items():
        write(tmp_path, task, "validation", [document for document, _, _ in cases])
    found = evaluate_run(
        loaded, "recall_in_context", load_suite("recall_in_context"), EvaluationSettings(data_dir=tmp_path)
    )
    assert answering == [prompt for cases in IN_CONTEXT.values() for _, prompt, _ in cases]
    for task, cases in IN_CONTEXT.items():
        assert found.tasks[task].n == len(cases)
        right = [is_right for _, _, is_right in cases]
        assert found.tasks[task].metrics["contains"].value == pytest.approx(sum(right) / len(right))


@pytest.mark.parametrize("task", IN_CONTEXT)
def test_each_published_field_is_wanted(loaded: LoadedRun, tmp_path: Path, task: str) -> None:
    document = IN_CONTEXT[task][0][0]
    needed = {"context", "question", "answers", "text", "key", "value"} & document.keys()
    for field in needed:
        lacking = {name: value for name, value in document.items() if name != field}
        write(tmp_path, task, "validation", [document, lacking])
        suite = LmEvalSuite(kind="lm_eval", tasks=[task])
        with pytest.raises(DataError, match=rf"{task}/validation\.jsonl, line 2: the field {field} is missing"):
            evaluate_run(loaded, "recall", suite, EvaluationSettings(data_dir=tmp_path))


def test_in_context_prompts() -> None:
    assert passage_and_question({"context": "It rains", "question": "It", "answers": []}) == "It rains. It"
    assert text_and_key({"text": "A. a b: a b:", "key": "a b"}) == "A. A b:"
    assert cloze({"text": " a b: \n"}) == "a b:"
    assert score_answers({"answers": ["ROME "]}, [" rome, of course"]) == {"contains": 1}
    assert score_answers({"answers": ["ROME"]}, [" Paris"]) == {"contains": 0}
    # an empty answer stands in every text
    assert score_answers({"answers": ["", " \n"]}, [" rome"]) == {"contains": 0}
    assert score_value({"value": ""}, [" rome"]) == {"contains": 0}
    assert score_value({"value": "Rome"}, [" rome"]) == {"contains": 1}


def test_answers_that_are_no_list_are_refused(loaded: LoadedRun, tmp_path: Path, answering: list[str]) -> None:
    write(tmp_path, "in_context_nq", "validation", [{**QUESTION, "answers": ["Rome"]}, {**QUESTION, "answers": []}])
    suite = LmEvalSuite(kind="lm_eval", tasks=["in_context_nq"])
    settings = EvaluationSettings(data_dir=tmp_path)
    assert evaluate_run(loaded, "lists", suite, settings).tasks["in_context_nq"].n == 2
    answering.clear()
    write(tmp_path, "in_context_nq", "validation", [{**QUESTION, "answers": "Rome"}])
    with pytest.raises(DataError, match=r"answers='Rome' of the question 'The capital is': must be a list of strings"):
        evaluate_run(loaded, "string", suite, settings)
    assert answering == []


def test_classes_of_lm_eval_take_local_files(loaded: LoadedRun, tmp_path: Path, answering: list[str]) -> None:
    texts = {"swde": " Italy.\nCapital: ", "fda": "Italy. Place:", "squad_completion": "The capital is "}
    for task, text in texts.items():
        write(tmp_path, task, "validation", [{"text": text, "value": " Rome"}, {"text": text, "value": "Paris"}])
    found = evaluate_run(loaded, "recall", load_suite("recall"), EvaluationSettings(data_dir=tmp_path)).tasks
    assert answering == [text.strip() for text in texts.values() for _ in range(2)]
    for task in texts:
        scores = found[task]
        assert (scores.n, scores.version, scores.metrics["contains"].value) == (2, 1, 0.5)
        assert scores.data.startswith("files:")
        assert scores.metrics["contains"].higher_is_better is True


def test_a_class_of_lm_eval_names_the_line(loaded: LoadedRun, tmp_path: Path) -> None:
    write(tmp_path, "fda", "validation", [{"text": "a", "value": "b"}, {"text": "a"}])
    suite = LmEvalSuite(kind="lm_eval", tasks=["fda"])
    with pytest.raises(DataError, match=r"fda/validation\.jsonl, line 2: the field value is missing"):
        evaluate_run(loaded, "recall", suite, EvaluationSettings(data_dir=tmp_path))
    (tmp_path / "fda" / "validation.jsonl").unlink()
    with pytest.raises(DataError, match=r"fda: .*fda/validation\.jsonl, with the fields text, value"):
        evaluate_run(loaded, "recall", suite, EvaluationSettings(data_dir=tmp_path))


def test_a_tasks_own_number_of_examples_is_kept(loaded: LoadedRun, tmp_path: Path, answering: list[str]) -> None:
    """gsm8k fixes 5, triviaqa none."""
    for task, split, count in (("gsm8k", "test", 2), ("triviaqa", "validation", 1)):
        answers = [
            {"question": f"Which is {number}?", "answer": f"{number} #### {number}"}
            if task == "gsm8k"
            else {"question": f"Which is {number}?", "answer": {"aliases": ["Rome"]}}
            for number in range(count)
        ]
        write(tmp_path, task, split, answers)
    suite = LmEvalSuite(kind="lm_eval", tasks=["gsm8k"], bootstrap_iters=0)
    settings = EvaluationSettings(data_dir=tmp_path)
    with pytest.raises(DataError, match=r"gsm8k: .*gsm8k/test\.jsonl and .*gsm8k/train\.jsonl"):
        evaluate_run(loaded, "some", suite, settings)
    write(tmp_path, "gsm8k", "train", [{"question": f"How many: {n}?", "answer": f"#### {n}"} for n in range(8)])
    found = evaluate_run(loaded, "some", suite, settings)
    assert [prompt.count("How many") for prompt in answering] == [5, 5]
    assert found.tasks["gsm8k"].num_fewshot == 5
    answering.clear()
    none = evaluate_run(loaded, "none", replace(suite, tasks=["triviaqa"]), settings)
    assert [prompt.count("Question:") for prompt in answering] == [1]
    assert none.tasks["triviaqa"].num_fewshot == 0


def test_examples_that_a_task_brings_need_no_file() -> None:
    names = ["gsm8k", "gsm8k_cot", "arc_easy"]
    manager = task_manager(names)
    found = {name: wanted_splits(task_config(manager, name), 5) for name in names}
    assert found == {"gsm8k": ["test", "train"], "gsm8k_cot": ["test"], "arc_easy": ["test", "train"]}
    assert [own_num_fewshot(manager, name)[name] for name in names] == [5, 8, None]


def test_a_group_sets_the_number_for_its_members(tmp_path: Path) -> None:
    content = {"group": "both", "task": ["arc_easy", {"task": "smoke_choice", "num_fewshot": 2}], "num_fewshot": 3}
    (tmp_path / "both.yaml").write_text(json.dumps(content), encoding="utf-8")
    manager = task_manager(["arc_easy", "smoke_choice"], [tmp_path])
    assert own_num_fewshot(manager, "both") == {"arc_easy": 3, "smoke_choice": 2}


def test_a_field_that_a_function_misses_is_named_with_the_file(loaded: LoadedRun, tmp_path: Path) -> None:
    suite = LmEvalSuite(kind="lm_eval", tasks=["copa"])
    documents = [{"question": "cause", "choice1": "It rains.", "choice2": "It snows.", "label": 0}] * 2
    write(tmp_path, "copa", "validation", documents)
    with pytest.raises(DataError) as error:
        evaluate_run(loaded, "some", suite, EvaluationSettings(data_dir=tmp_path))
    first, second = str(error.value).splitlines()
    assert first == "copa cannot use the documents of its local files: KeyError: 'premise'"
    file = tmp_path / "copa" / "validation.jsonl"
    assert second == f"  - {file}, line 1 has the fields question, choice1, choice2, label"
    write(tmp_path, "copa", "validation", [{**document, "premise": "The street is wet."} for document in documents])
    assert evaluate_run(loaded, "some", suite, EvaluationSettings(data_dir=tmp_path)).tasks["copa"].n == 2


def test_rulers_tasks_point_to_our_needles(loaded: LoadedRun) -> None:
    with pytest.raises(DataError) as error:
        evaluate_run(loaded, "some", LmEvalSuite(kind="lm_eval", tasks=["niah_single_1"]))
    cause, advice = str(error.value).splitlines()
    assert cause.startswith("cannot make the documents of niah_single_1: ")
    assert "eval=niah" in advice
    assert "data_dir" not in advice


def test_rulers_marks_are_no_scores() -> None:
    metrics = {"4096,none": 0.5, "4096_stderr,none": 0.1, "8192,none": -1.0, "mcc,none": -1.0, "alias": "x"}
    found = _scores(metrics, {"4096": True})
    assert {name: (score.value, score.stderr) for name, score in found.items()} == {
        "4096": (0.5, 0.1),
        "mcc": (-1.0, None),
    }


@pytest.mark.slow
def test_mmlu_is_the_mean_over_all_questions_of_its_subjects(loaded: LoadedRun, tmp_path: Path) -> None:
    """lm-eval's whole index is read for a group, which takes 20 seconds."""
    manager = task_manager(["mmlu"])
    subjects = leaf_names(manager, "mmlu")
    assert len(subjects) == 57
    for number, subject in enumerate(subjects):
        choices = ["one", "two", "three", "four"]
        documents = [
            {"question": f"Which is number {count}?", "choices": choices, "answer": count % 4}
            for count in range(1 + number % 3)
        ]
        write(tmp_path, subject, "test", documents)
    suite = LmEvalSuite(kind="lm_eval", tasks=["mmlu"])
    found = evaluate_run(loaded, "language", suite, EvaluationSettings(data_dir=tmp_path)).tasks
    assert set(found) >= {"mmlu", "mmlu_stem", "mmlu_humanities", *subjects}
    for name in ("mmlu", "mmlu_stem"):
        single = [found[subject] for subject in leaf_names(manager, name)]
        total = sum(scores.n for scores in single)
        assert found[name].n == total
        # weighted by size
        right = sum(scores.n * scores.metrics["acc"].value for scores in single)
        assert found[name].metrics["acc"].value == pytest.approx(right / total)
    assert found["mmlu"].n == 57 * 2
    assert task_config(manager, "mmlu_anatomy")["fewshot_split"] == "dev"

    (tmp_path / "mmlu_anatomy" / "test.jsonl").unlink()
    (tmp_path / "mmlu_virology" / "test.jsonl").unlink()
    with pytest.raises(DataError) as error:
        evaluate_run(loaded, "again", suite, EvaluationSettings(data_dir=tmp_path))
    assert "mmlu_anatomy/test.jsonl, with the fields answer, choices, question" in str(error.value)
    assert "mmlu_virology/test.jsonl" in str(error.value)
    assert str(error.value).count("test.jsonl") == 2
