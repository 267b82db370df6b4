"""Needles: what is hidden can be found, where and as long as it was asked for, with any tokenizer."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from rla_exp.data.tokenizer import ByteTokenizer, Tokenizer, load_subword, train_bpe
from rla_exp.errors import ConfigError, DataError
from rla_exp.eval.niah import (
    NEEDLE_TASKS,
    NeedleConfig,
    NeedleDocument,
    needle_accuracy,
    needle_documents,
    needle_score,
)
from rla_exp.eval.niah_text import generated_sentences

BYTES = ByteTokenizer()
SMALL = NeedleConfig(lengths=(512, 1500), depths=(0.0, 0.5, 1.0), num_samples=2)


@pytest.fixture(scope="module")
def bpe(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    import numpy as np

    folder = tmp_path_factory.mktemp("bpe")
    sentences = generated_sentences(np.random.default_rng(0))
    train_bpe([" ".join(next(sentences) for _ in range(300))], 600, folder)
    return load_subword(folder)


def test_every_combination_once_and_the_answers_are_in_the_text() -> None:
    documents = needle_documents(SMALL, BYTES)
    assert len(documents) == 8 * 2 * 3 * 2
    for document in documents:
        task = NEEDLE_TASKS[document.task]
        assert len(document.answers) == task.num_queries * task.num_values
        assert len(set(document.answers)) == len(document.answers)
        for answer in document.answers:
            assert document.prompt.count(answer) == 1
        assert document.prompt.endswith((" is", " are"))


@pytest.mark.parametrize("kind", ["bytes", "bpe"])
def test_prompts_are_filled_to_within_a_sentence(kind: str, bpe: Tokenizer) -> None:
    tokenizer = BYTES if kind == "bytes" else bpe
    for document in needle_documents(SMALL, tokenizer):
        (encoded,) = tokenizer.encode([document.prompt])
        assert document.num_tokens == len(encoded.tokens) - 1
        room = document.length - 128 - document.num_tokens
        # the longest unit, a needle of two uuids, has 103 bytes
        assert 0 <= room < 105, document.task


@pytest.mark.parametrize("task", sorted(NEEDLE_TASKS))
def test_the_first_answer_lies_at_its_depth(task: str) -> None:
    config = NeedleConfig(tasks=(task,), lengths=(8192,), depths=(0.0, 0.25, 0.5, 1.0), num_samples=1)
    for document in needle_documents(config, BYTES):
        place = document.prompt.index(document.answers[0]) / len(document.prompt)
        assert place == pytest.approx(document.depth, abs=0.05)


def test_asked_keys_are_told_apart() -> None:
    """The key asked for stands in its own needles and the question alone, each other key with another value."""
    for document in needle_documents(replace(SMALL, tasks=("needle_multi_key_1", "needle_multi_key_2")), BYTES):
        (asked,) = re.findall(r"\nThe secret number of (\S+) is$", document.prompt)
        assert re.findall(rf"One secret number of {asked} is (\d+)\.", document.prompt) == list(document.answers)
        assert len(re.findall(r"One secret number of \S+ is \d{7}\.", document.prompt)) >= 4


def test_a_document_does_not_depend_on_what_else_is_asked_for() -> None:
    alone = NeedleConfig(tasks=("needle_multi_value",), lengths=(1500,), depths=(0.5,), num_samples=1)
    (expected,) = needle_documents(alone, BYTES)
    assert expected in needle_documents(SMALL, BYTES)
    assert needle_documents(replace(alone, seed=1), BYTES)[0].answers != expected.answers


def test_a_file_as_haystack(tmp_path) -> None:
    file = tmp_path / "essay.txt"
    file.write_text("First of all.  Then\nmore of it! " * 50, encoding="utf-8")
    config = NeedleConfig(tasks=("needle_single_2",), lengths=(600,), depths=(0.5,), num_samples=1, haystack=file)
    (document,) = needle_documents(config, BYTES)
    context = document.prompt.splitlines()[1]
    rest = re.sub(r"One secret number of \S+ is \d+\. ?", "", context)
    assert len(rest) > 250
    assert re.sub(r"First of all\.|Then more of it!| ", "", rest) == ""
    with pytest.raises(DataError, match=r"cannot read .*missing\.txt"):
        needle_documents(replace(config, haystack=tmp_path / "missing.txt"), BYTES)


def test_all_problems_at_once() -> None:
    config = NeedleConfig(tasks=("needle_singel_1",), depths=(0.5, 1.5), num_samples=0)
    with pytest.raises(ConfigError) as error:
        needle_documents(config, BYTES)
    assert len(error.value.problems) == 3
    assert "did you mean needle_single_1?" in error.value.problems[0]


def test_a_length_without_room_names_every_task_that_does_not_fit() -> None:
    with pytest.raises(ConfigError) as error:
        needle_documents(replace(SMALL, tasks=("needle_single_1", "needle_multi_query"), lengths=(340, 2000)), BYTES)
    (problem,) = error.value.problems
    assert problem.startswith("the suite's file in conf/eval/: lengths=340: needle_multi_query takes 36")


def test_score_and_accuracy() -> None:
    assert needle_score("It is 12 and AB-cd.", ("12", "ab-CD")) == 1.0
    assert needle_score("It is 12.", ("12", "34")) == 0.5

    def document(depth: float) -> NeedleDocument:
        return NeedleDocument("needle_single_1", "", ("1",), 512, depth, 300, 128)

    cells = needle_accuracy([document(0.0), document(0.0), document(1.0)], [1.0, 0.5, 0.0])
    place = {"task": "needle_single_1", "length": 512}
    assert cells == [
        {**place, "depth": 0.0, "accuracy": 0.75, "stderr": pytest.approx(0.25), "n": 2},
        {**place, "depth": 1.0, "accuracy": 0.0, "stderr": None, "n": 1},
    ]
