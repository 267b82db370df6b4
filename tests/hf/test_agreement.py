"""lm-eval's own adapter of transformers, on the exported model, says what ours says.

`python -m pytest tests/hf/test_agreement.py --log-cli-level=INFO` shows the numbers.
"""

from __future__ import annotations

import json
import logging
import random
from dataclasses import dataclass, replace

import pytest
import yaml
from lm_eval.tasks import TaskManager

from rla_exp.config import compose
from rla_exp.data.tokenizer import Tokenizer, load_subword, train_bpe
from rla_exp.eval.adapter import RlaLM
from rla_exp.eval.agreement import compare
from rla_exp.hf.export import export_model
from rla_exp.models import LanguageModel, build_model

logger = logging.getLogger(__name__)

WINDOW = 48
WORDS = ["state", "gate", "write", "read", "norm", "value", "query", "token", "chunk", "kernel", "cache", "batch"]


@dataclass(frozen=True)
class _Source:
    model: LanguageModel
    tokenizer: Tokenizer
    train_length: int = WINDOW


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bpe")
    train_bpe([" ".join(WORDS)] * 20, 290, folder)
    return load_subword(folder)


@pytest.fixture(scope="module")
def task_manager(tmp_path_factory):
    """Three local tasks: choices after contexts shorter and longer than the window, whole documents, completions."""
    folder = tmp_path_factory.mktemp("tasks")
    draw = random.Random(0)

    def words(low, high):
        return " ".join(draw.choice(WORDS) for _ in range(draw.randint(low, high)))

    questions = [
        {"question": words(1, 40), "choices": [words(1, 5) for _ in range(3)], "label": draw.randrange(3)}
        for _ in range(6)
    ]
    documents = [{"text": words(1, 60)} for _ in range(3)]
    for name, lines in (("questions", questions), ("documents", documents)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")

    def task(name, file, **settings):
        data = {"dataset_path": "json", "dataset_kwargs": {"data_files": {"test": str(folder / f"{file}.jsonl")}}}
        content = {"task": name, "test_split": "test", **data, **settings}
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")

    task(
        "local_choices",
        "questions",
        output_type="multiple_choice",
        doc_to_text="{{question}}",
        doc_to_choice="{{choices}}",
        doc_to_target="label",
        metric_list=[{"metric": "acc"}, {"metric": "acc_norm"}],
    )
    task(
        "local_documents",
        "documents",
        output_type="loglikelihood_rolling",
        doc_to_text="",
        doc_to_target="{{text}}",
        metric_list=[{"metric": "bits_per_byte"}],
    )
    task(
        "local_completions",
        "questions",
        output_type="generate_until",
        doc_to_text="{{question}}",
        doc_to_target="{{choices[0]}}",
        generation_kwargs={"until": ["\n"], "max_gen_toks": 8, "do_sample": False},
        metric_list=[{"metric": "exact_match"}],
    )
    return TaskManager(include_path=str(folder), include_defaults=False)


@pytest.fixture(autouse=True, scope="module")
def offline(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path_factory.mktemp("datasets")))
        patch.setattr("datasets.config.HF_DATASETS_OFFLINE", True)
        yield


@pytest.fixture
def adapters(tokenizer, tmp_path):
    """(model's name, our rule for the context): our adapter, and lm-eval's own on the exported model."""
    from lm_eval.models.huggingface import HFLM

    def make(name, context):
        config = replace(compose([f"model={name}", "size=tiny"]).config.model, mlp_dim=48)
        source = _Source(build_model(config, tokenizer.vocab_size, seed=0).eval(), tokenizer)
        folder = tmp_path / "exported"
        export_model(source.model, tokenizer, folder, train_length=WINDOW, provenance={})
        theirs = HFLM(pretrained=str(folder), device="cpu", dtype="float32", batch_size=4, max_length=WINDOW)
        return RlaLM(source, context=context, batch_size=4), theirs

    return make


@pytest.mark.parametrize("name", ["transformer", "retnet", "rdn"])
def test_our_adapter_agrees_with_hflm_on_the_exported_model(name, adapters, task_manager):
    tasks = ["local_choices", "local_documents", "local_completions"]

    found = compare(*adapters(name, f"windowed({WINDOW})"), tasks, task_manager=task_manager)

    by_name = {task.task: task for task in found}
    assert set(by_name) == set(tasks)
    for task in found:
        logger.info("%s %s", name, task)
        assert task.num_other_answers == 0
        for our_value, their_value in task.metrics.values():
            assert our_value == pytest.approx(their_value, abs=1e-6)
        assert task.mean_difference <= 1e-5
        assert min(task.seconds) > 0
        assert task.largest_difference <= 1e-4
    assert by_name["local_choices"].num_requests == 18
    assert by_name["local_choices"].num_tokens > 100
    # several windows
    assert by_name["local_documents"].num_tokens > 3 * WINDOW
    assert by_name["local_completions"].num_requests == 6


def test_the_measure_sees_another_rule_for_the_context(adapters, task_manager):
    (found,) = compare(*adapters("rdn", "full"), ["local_documents"], task_manager=task_manager)
    assert found.mean_difference > 1e-3
