"""From the name of a task to lm-eval's description of it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

import lm_eval.tasks
from lm_eval.tasks import TaskManager

from rla_exp.errors import ConfigError
from rla_exp.eval.quiet import lm_eval_quiet

OWN_TASKS = Path(__file__).parent / "tasks"
"""Our tasks in lm-eval's form: smoke, and in-context recall."""


def task_manager(names: Sequence[str], include: Sequence[Path] = ()) -> TaskManager:
    """A manager that knows these tasks, groups or tags.

    Args:
        include: folders whose tasks stand in for those of the same name.

    Raises:
        ConfigError: names every one that lm-eval does not have, with the nearest it has.
    """
    with lm_eval_quiet():
        manager = _manager(names, include)
    unknown = [name for name in names if name not in manager.task_index]
    if unknown:
        raise ConfigError([_unknown(name, manager.all_tasks) for name in unknown])
    return manager


def _manager(names: Sequence[str], include: Sequence[Path]) -> TaskManager:
    # lm-eval's whole index takes 20 seconds; the files that define single tasks are found in one
    folders = [OWN_TASKS]
    own = TaskManager(include_path=str(OWN_TASKS), include_defaults=False)
    others = [name for name in names if name not in own.task_index]
    whole = False
    if others:
        found = _files_of_tasks()
        whole = any(name not in found for name in others)
        folders += sorted({found[name].parent for name in others if name in found})
    paths = [str(path) for path in (*folders, *include)]
    if not others and not include:
        return own
    return TaskManager(include_path=paths, include_defaults=whole)


def task_config(manager: TaskManager, name: str) -> dict[str, Any]:
    """What the YAML of a single task says, functions as their names."""
    return dict(manager.task_index[name].cfg or {})


def leaf_names(manager: TaskManager, name: str) -> list[str]:
    """The single tasks of a name, which may be a group's or a tag's, in order, each once."""
    return list(own_num_fewshot(manager, name))


def own_num_fewshot(manager: TaskManager, name: str, given: int | None = None) -> dict[str, int | None]:
    """The number of examples that each single task of a name fixes, by its name; None where it fixes none.

    Args:
        given: what a group sets for its members, before their own.
    """
    entry = manager.task_index[name]
    config = entry.cfg or {}
    if entry.kind.name == "TAG":
        members: list[Any] = sorted(entry.tags)
    elif entry.kind.name == "GROUP":
        members = list(config.get("task", []))
        given = config.get("num_fewshot") if given is None else given
    else:
        return {name: config.get("num_fewshot") if given is None else given}
    found: dict[str, int | None] = {}
    for member in members:
        changes = member if isinstance(member, dict) else {}
        child = changes.get("task") or changes.get("group") if changes else member
        if isinstance(child, str) and child in manager.task_index:
            for leaf, number in own_num_fewshot(manager, child, changes.get("num_fewshot", given)).items():
                found.setdefault(leaf, number)
    return found


def _unknown(name: str, known: Sequence[str]) -> str:
    nearest = get_close_matches(name, known, n=3)
    meant = f"; did you mean {' or '.join(nearest)}?" if nearest else ""
    return f"tasks={name}: lm-eval has no task, group or tag of this name{meant}"


@cache
def _files_of_tasks() -> dict[str, Path]:
    """Name -> file of every single task that lm-eval brings."""
    files = {}
    for path in Path(lm_eval.tasks.__file__).parent.rglob("*.yaml"):
        match = re.search(rb"^task:[ \t]*[\"']?([\w.:-]+)[\"']?[ \t]*\r?$", path.read_bytes(), re.MULTILINE)
        if match:
            files[match[1].decode()] = path
    return files
