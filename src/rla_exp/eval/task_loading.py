"""Tasks of lm-eval with their data, from the hub or from local files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lm_eval.api.task import ConfigurableTask
from lm_eval.tasks import TaskManager

from rla_exp.errors import DataError, UserError
from rla_exp.eval.local_files import (
    describe_wanted,
    load_splits,
    read_documents,
    required_fields,
    wanted_splits,
)
from rla_exp.eval.suite import LmEvalSuite
from rla_exp.eval.task_names import leaf_names, own_num_fewshot, task_config

_MOST_LISTED = 12


@dataclass(frozen=True)
class TaskSource:
    """Where the data of tasks come from."""

    manager: TaskManager
    files: Mapping[str, Mapping[str, Path]]
    """Single task -> split -> local file; empty where the hub is asked."""
    data_dir: Path | None


def num_fewshot_of(manager: TaskManager, names: Sequence[str], suite: LmEvalSuite) -> dict[str, int]:
    """Examples before each question of every single task of the names: its own number, or the suite's."""
    found: dict[str, int] = {}
    for name in names:
        for leaf, number in own_num_fewshot(manager, name).items():
            found.setdefault(leaf, suite.num_fewshot if number is None else number)
    return found


def load_task(name: str, suite: LmEvalSuite, source: TaskSource) -> Any:
    """What lm-eval makes of a task, group or tag, its data among it.

    Raises:
        DataError: the data cannot be had or cannot be used; says which files would do, or which do not.
    """
    config = task_config(source.manager, name)
    try:
        if "class" in config and name in source.files:
            return source.manager.load([_with_files(name, source)])
        return source.manager.load([name])
    except UserError:
        raise
    # the hub's client, its data sets and functions of tasks share no base class
    except Exception as error:
        cause = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
        raise DataError(_cannot_load(name, cause, suite, source)) from error


def _cannot_load(name: str, cause: str, suite: LmEvalSuite, source: TaskSource) -> str:
    """The message, with the advice that helps."""
    leaves = leaf_names(source.manager, name)
    configs = {leaf: task_config(source.manager, leaf) for leaf in leaves}
    files = [file for leaf in leaves for file in source.files.get(leaf, {}).values()]
    if files:
        # a function of the task asks for what no template tells
        lines = [f"{file}, line 1 has the fields {', '.join(read_documents(file, [])[0])}" for file in files]
        return f"{name} cannot use the documents of its local files: {cause}{listed(lines)}"
    if leaves and all("custom_dataset" in config for config in configs.values()):
        in_ruler = all("ruler" in Path(str(source.manager.task_index[leaf].yaml_path)).parts for leaf in leaves)
        advice = "its documents are made by a function of the task, for which no files can stand in"
        if in_ruler:
            advice = (
                "RULER's tasks want a tokenizer of transformers by its name, which a run does not have; eval=niah has "
                "needles in haystacks for the run's own tokenizer"
            )
        return f"cannot make the documents of {name}: {cause}\n{advice}"
    wanted = []
    for leaf, num_fewshot in num_fewshot_of(source.manager, [name], suite).items():
        splits = wanted_splits(configs[leaf], num_fewshot)
        wanted.append(describe_wanted(source.data_dir, leaf, splits, required_fields(leaf, configs[leaf])))
    return (
        f"cannot load the data of {name}: {cause}\nWithout a network, pass data_dir=FOLDER with these files (.jsonl, "
        f".jsonl.gz, .json or .parquet):{listed(wanted)}"
    )


def listed(lines: Sequence[str]) -> str:
    """The lines of a message, not all of a group's many."""
    rest = len(lines) - _MOST_LISTED
    shown = [*lines[:_MOST_LISTED], *([f"and so on for {rest} more"] if rest > 0 else [])]
    return "".join(f"\n  - {line}" for line in shown)


def _with_files(name: str, source: TaskSource) -> ConfigurableTask:
    """A task that is a class, with local data."""
    config = task_config(source.manager, name)
    files = {split: str(file) for split, file in source.files[name].items()}
    base = class_of(config)

    def download(task: ConfigurableTask, *_: Any, **__: Any) -> None:
        task.dataset = load_splits(files, required_fields(name, config))

    task = type(base.__name__, (base,), {"download": download})()
    task.config.task = name
    return task


def class_of(config: Mapping[str, Any]) -> type[ConfigurableTask]:
    """The class that `class: !function task.SWDE` names; the index has it as a path, /folder/task.SWDE."""
    path, _, attribute = str(config["class"]).rpartition(".")
    module = path[path.index("/lm_eval/") + 1 :].replace("/", ".")
    found: type[ConfigurableTask] = getattr(__import__(module, fromlist=[attribute]), attribute)
    return found
