"""Tasks of lm-eval: opened, run on a model, and what they came to."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import lm_eval.evaluator
import yaml
from lm_eval.tasks import TaskManager

from rla_exp.errors import ConfigError, DataError
from rla_exp.eval.adapter import RlaLM
from rla_exp.eval.local_files import (
    describe_wanted,
    find_files,
    load_splits,
    read_documents,
    required_fields,
    sha256_of,
    wanted_splits,
)
from rla_exp.eval.quiet import lm_eval_in_one_process, lm_eval_quiet
from rla_exp.eval.stored import Documents
from rla_exp.eval.suite import LmEvalSuite
from rla_exp.eval.task_loading import TaskSource, class_of, listed, load_task, num_fewshot_of
from rla_exp.eval.task_names import leaf_names, task_config, task_manager
from rla_exp.runs.evaluations import Score, TaskScores

FEWSHOT_SEED = 1234
"""lm-eval's own."""


def reads_files(names: Collection[str]) -> bool:
    """Whether any of these tasks, groups or tags takes documents from a data_dir; those that make their own do not."""
    own = task_manager([])
    return not all(name in own.task_index and "custom_dataset" in task_config(own, name) for name in names)


def is_offered(name: str, data_dir: Path) -> bool:
    """Whether `data_dir` has a folder for a task, or for members of a group, or the task needs none."""
    return not reads_files([name]) or (data_dir / name).is_dir() or any(data_dir.glob(f"{name}_*/"))


@contextmanager
def open_tasks(names: Sequence[str], suite: LmEvalSuite, data_dir: Path | None) -> Iterator[TaskSource]:
    """Find tasks, and their local files where `data_dir` is given.

    Raises:
        ConfigError: names lm-eval does not know, or a data_dir that is no folder or that no task reads from.
        DataError: says which files are missing in data_dir, or which line of a file lacks a field.
    """
    manager = task_manager(names)
    if data_dir is None:
        yield TaskSource(manager, {}, None)
        return
    if not data_dir.is_dir():
        raise ConfigError([f"data_dir={data_dir}: there is no such folder"])
    num_fewshot = num_fewshot_of(manager, names, suite)
    configs = {leaf: task_config(manager, leaf) for leaf in num_fewshot}
    if all("custom_dataset" in config for config in configs.values()):
        raise ConfigError([f"data_dir={data_dir}: has no effect with these tasks, whose documents are generated"])
    files, missing = {}, []
    for leaf, config in configs.items():
        if "custom_dataset" in config:
            # made by a function of its own
            continue
        splits = wanted_splits(config, num_fewshot[leaf])
        files[leaf] = find_files(data_dir, leaf, splits)
        fields = required_fields(leaf, config)
        if len(files[leaf]) < len(splits):
            missing.append(describe_wanted(data_dir, leaf, splits, fields))
        for file in files[leaf].values():
            read_documents(file, fields)
    if missing:
        raise DataError(f"data_dir={data_dir} lacks files (.jsonl, .jsonl.gz, .json or .parquet):{listed(missing)}")
    with TemporaryDirectory(prefix="rla-tasks-") as folder:
        for leaf, config in configs.items():
            # tasks that are classes take no configuration; they are given their data when they are made
            if leaf in files and "class" not in config:
                _write_overlay(Path(folder), leaf, manager, config, files[leaf])
        yield TaskSource(task_manager(names, [Path(folder)]), files, data_dir)


def _write_overlay(
    folder: Path, name: str, manager: TaskManager, config: Mapping[str, Any], files: Mapping[str, Path]
) -> None:
    """A task file that takes all from lm-eval's own but the data."""
    kept = {key: config.get(key) for key in ("training_split", "validation_split", "test_split", "fewshot_split")}
    content: dict[str, Any] = {
        "include": str(manager.task_index[name].yaml_path),
        "task": name,
        "dataset_name": None,
        **{key: None for key, split in kept.items() if split is not None and split not in files},
        "dataset_kwargs": {
            "files": {split: str(file.resolve()) for split, file in files.items()},
            "fields": required_fields(name, config),
        },
    }
    loader = f"custom_dataset: !function {load_splits.__module__}.{load_splits.__name__}\n"
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(content) + loader, encoding="utf-8")


def run_task(
    model: RlaLM, name: str, suite: LmEvalSuite, source: TaskSource, limit: int | None
) -> dict[str, TaskScores]:
    """The scores of a task, group or tag: by its name, and those of its single tasks by theirs.

    Raises:
        DataError: the data cannot be had; says which files would do.
    """
    started = time.perf_counter()
    with lm_eval_quiet(), lm_eval_in_one_process():
        loaded = load_task(name, suite, source)
        for task in loaded["tasks"].values():
            # a number in a task's own file, 0 too, belongs to the task
            if task.get_config("num_fewshot") is None:
                task.set_config(key="num_fewshot", value=suite.num_fewshot)
            task.set_fewshot_seed(seed=FEWSHOT_SEED)
        results: dict[str, Any] = lm_eval.evaluator.evaluate(
            lm=model,
            task_dict=loaded,
            limit=limit,
            bootstrap_iters=suite.bootstrap_iters,
            log_samples=False,
        )
    seconds = time.perf_counter() - started
    counts = {task: int(count["effective"]) for task, count in results["n-samples"].items()}
    scores = {}
    for entry, metrics in results["results"].items():
        members = [leaf for leaf in leaf_names(source.manager, entry) if leaf in counts]
        scores[entry] = TaskScores(
            version=results["versions"].get(entry),
            n=sum(counts[member] for member in members),
            metrics=_scores(metrics, results["higher_is_better"].get(entry, {})),
            seconds=seconds,
            data=_data(members, source),
            num_fewshot=results["n-shot"].get(entry),
        )
    return scores


def _scores(metrics: Mapping[str, Any], higher_is_better: Mapping[str, bool | None]) -> dict[str, Score]:
    """lm-eval's `acc,none` and `acc_stderr,none` as one score `acc`; other filters stay in the name."""
    scores = {}
    for key, value in metrics.items():
        metric, comma, filter_name = key.partition(",")
        if not comma or metric.endswith("_stderr") or isinstance(value, str):
            continue
        stderr = metrics.get(f"{metric}_stderr,{filter_name}")
        # lm-eval writes "N/A" where there is none
        known = stderr if isinstance(stderr, int | float) and math.isfinite(stderr) else None
        if metric.isdecimal() and value == -1:
            # RULER's mark of a length that was not asked for
            continue
        name = metric if filter_name == "none" else f"{metric},{filter_name}"
        scores[name] = Score(float(value), None if known is None else float(known), higher_is_better.get(metric))
    return scores


def stored_entries(name: str, source: TaskSource) -> dict[str, Documents]:
    """What is stored of a name when it is finished: an entry of its own, or of each member where it is a tag."""
    is_tag = source.manager.task_index[name].kind.name == "TAG"
    found = {}
    for entry in leaf_names(source.manager, name) if is_tag else [name]:
        members = leaf_names(source.manager, entry)
        files = [file for member in members for file in source.files.get(member, {}).values()]
        found[entry] = Documents(_data(members, source), files)
    return found


def _data(members: Sequence[str], source: TaskSource) -> str:
    """Where the documents came from."""
    digests = [sha256_of(source.files[member]) for member in members if member in source.files]
    if digests:
        one = digests[0] if len(digests) == 1 else hashlib.sha256(",".join(digests).encode()).hexdigest()
        return f"files:{one}"
    return ",".join(sorted({_origin(task_config(source.manager, member)) for member in members}))


def _origin(config: Mapping[str, Any]) -> str:
    path = config.get("dataset_path")
    if "class" in config:
        # a task that is a class names its data itself
        path = class_of(config).DATASET_PATH or config["task"]
    return f"hub:{path}" if path else "generated"
