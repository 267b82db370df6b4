"""Scores that are stored already: which of them stand, and which were made otherwise than they would be now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rla_exp.config.wording import show
from rla_exp.errors import RunError
from rla_exp.runs.evaluations import Evaluation, evaluation_file, read_evaluation

_OVERWRITE = "To score anew what was made otherwise, remove that file, or give rla-evaluate overwrite=true."
_MOST_FILES = 3
_ORIGINS = ("sources", "device", "torch")
"""What of the provenance a file's tasks have in common; the commit may differ where the sources do not."""


class Documents(NamedTuple):
    """What a task is scored on."""

    data: str
    """As in TaskScores.data."""
    files: Sequence[Path] = ()
    """Where they are local files."""


def resumed(run: Path, now: Evaluation, *, overwrite: bool) -> Evaluation:
    """The stored evaluation that an evaluation like `now` goes on with; `now` where there is none.

    Args:
        run: the run's folder.
        overwrite: drop what was made with other settings, by other sources or on another device.

    Raises:
        RunError: such scores are stored, and `overwrite` is not set; or the file is damaged.
    """
    there = read_evaluation(run, now.suite)
    if there is None:
        return now
    lines = _differing(there.settings, now.settings, sorted(there.settings.keys() | now.settings.keys()))
    lines += _differing(there.provenance, now.provenance, _ORIGINS)
    if not lines:
        return there
    if overwrite:
        return now
    file = evaluation_file(run, now.suite)
    raise RunError(f"{file} was made with other settings:\n" + "\n".join(lines) + f"\n{_OVERWRITE}")


def is_finished(stored: Evaluation, wanted: Mapping[str, Documents]) -> bool:
    """Whether all entries of a task are stored, and of the same documents."""
    return all(
        entry in stored.tasks and stored.tasks[entry].data == documents.data for entry, documents in wanted.items()
    )


def refuse_other_documents(run: Path, stored: Evaluation, wanted: Mapping[str, Documents]) -> None:
    """Stop before scores of other documents would be taken for those that were asked for.

    Raises:
        RunError: names every task whose documents differ, and the files.
    """
    lines = []
    for entry, (data, files) in wanted.items():
        if entry in stored.tasks and stored.tasks[entry].data != data:
            shown = [*map(str, files[:_MOST_FILES]), *(["..."] if len(files) > _MOST_FILES else [])]
            where = f" ({', '.join(shown)})" if shown else ""
            lines.append(
                f"  - documents of {entry}: {_short(stored.tasks[entry].data)} then, {_short(data)}{where} now"
            )
    if lines:
        file = evaluation_file(run, stored.suite)
        raise RunError(f"{file} was made from other data:\n" + "\n".join(lines) + f"\n{_OVERWRITE}")


def _differing(then: Mapping[str, Any], now: Mapping[str, Any], keys: Sequence[str]) -> list[str]:
    return [
        f"  - {key}: {_short(show(then.get(key)))} then, {_short(show(now.get(key)))} now"
        for key in keys
        if then.get(key) != now.get(key)
    ]


def _short(text: str) -> str:
    """Hashes by their first digits."""
    kind, colon, digest = text.rpartition(":")
    return f"{kind}{colon}{digest[:12]}..." if len(digest) == 64 and digest.isalnum() else text
