"""The keys of a configuration, read off the schema: their names, types and documentation."""

from __future__ import annotations

import ast
import re
import types
import typing
from collections.abc import Iterator
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from rla_exp.config import schema


@dataclass(frozen=True)
class Key:
    """One setting: its place, what it accepts and what it means."""

    name: str
    """Dotted, as typed on the command line: `optim.lr`."""
    allowed: tuple[str, ...]
    """The words that it accepts, where only some are; empty otherwise."""
    nullable: bool
    """Whether null is a value."""
    default: Any
    """What the schema fills in; dataclasses.MISSING where a file of conf/ must name a value."""
    doc: str
    """Its meaning, from the schema."""
    section: str
    """The class of the schema that holds it, for example MqarConfig."""


# set by the files of a group together with much else: no settings of their own
GROUP_NAMES = {"model.name": "model", "model.mixer": "model", "data.kind": "data", "ablation": "ablation"}


@cache
def schema_keys() -> dict[str, Key]:
    """Every key by name; one that MQAR and text share stands once, as MQAR's."""
    keys: dict[str, Key] = {}
    for key in _walk(schema.RunConfig, prefix=""):
        keys.setdefault(key.name, key)
    return keys


def key_name(typed: str) -> str:
    """The name in the schema: a list's entries share the first one's (`data.train.2.length`: `data.train.0.length`)."""
    return re.sub(r"\.\d+", ".0", re.sub(r"\.\d+$", "", typed))


def sections() -> tuple[str, ...]:
    """The top-level keys that hold others."""
    return tuple(dict.fromkeys(name.split(".")[0] for name in schema_keys() if "." in name))


def text_only_keys() -> frozenset[str]:
    """Keys of `data` that only text has."""
    return frozenset(name for name, key in schema_keys().items() if key.section == "TextConfig")


def _walk(cls: type, prefix: str) -> Iterator[Key]:
    hints = typing.get_type_hints(cls, include_extras=True)
    for field in fields(cls):
        hint = hints[field.name]
        name = prefix + field.name
        inner = [part for part in _parts(hint) if is_dataclass(part)]
        is_list = any(get_origin(part) is list for part in _parts(hint))
        if not inner or is_list:
            default = field.default_factory() if field.default_factory is not MISSING else field.default
            allowed = [word for part in _parts(hint) if get_origin(part) is Literal for word in get_args(part)]
            nullable = type(None) in _parts(hint)
            yield Key(name, tuple(allowed), nullable, default, _docs()[cls.__name__][field.name], cls.__name__)
        for part in inner:
            yield from _walk(typing.cast(type, part), prefix=f"{name}.0." if is_list else f"{name}.")


def _parts(hint: Any) -> list[Any]:
    """What a type hint is made of: its alternatives, lists and what is in them, without annotations."""
    origin = get_origin(hint)
    if origin is typing.Annotated:
        return _parts(get_args(hint)[0])
    if origin in (typing.Union, types.UnionType):
        return [part for argument in get_args(hint) for part in _parts(argument)]
    if origin is list:
        return [hint, *_parts(get_args(hint)[0])]
    return [hint]


@cache
def _docs() -> dict[str, dict[str, str]]:
    """Class name -> field name -> the string that follows the field in the schema's source."""
    tree = ast.parse(Path(schema.__file__).read_text(encoding="utf-8"))
    docs: dict[str, dict[str, str]] = {}
    for statement in tree.body:
        if not isinstance(statement, ast.ClassDef):
            continue
        found = docs.setdefault(statement.name, {})
        for line, following in zip(statement.body, [*statement.body[1:], None], strict=True):
            if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name):
                found[line.target.id] = _string(following)
    return docs


def _string(statement: ast.stmt | None) -> str:
    if (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    ):
        return " ".join(statement.value.value.split())
    return ""
