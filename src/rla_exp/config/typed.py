"""From plain values to the typed schema, with every wrong type and range at once."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from rla_exp.config.keys import key_name, schema_keys, sections, text_only_keys
from rla_exp.config.schema import RunConfig
from rla_exp.config.wording import closest, did_you_mean, show


@dataclass(frozen=True)
class Problem:
    """What is wrong, and with which keys."""

    keys: tuple[str, ...]
    """The first is the one to mend; a problem is left unsaid where another of them could not be read."""
    message: str


def to_typed(values: Mapping[str, Any]) -> tuple[RunConfig | None, list[Problem]]:
    """The configuration, or the problems that keep it from being one."""
    try:
        # strict validation of JSON: 2.0 is no integer, 1 is no boolean, but 1 is a number
        return _adapter().validate_json(json.dumps(values), strict=True), []
    except ValidationError as error:
        return None, [_problem(details) for details in error.errors()]


def to_plain(config: RunConfig) -> dict[str, Any]:
    """The configuration as dicts, lists and scalars, every default filled in: what config.yaml holds."""
    plain = _adapter().dump_python(config, mode="json")
    assert isinstance(plain, dict)
    return plain


@cache
def _adapter() -> TypeAdapter[RunConfig]:
    return TypeAdapter(RunConfig)


def _problem(details: ErrorDetails) -> Problem:
    name = _key(details["loc"])
    kind, value = details["type"], details["input"]
    if kind == "missing":
        return Problem((name,), f"{name}: nothing sets it; a file of {name.split('.')[0]}/ must")
    if kind in ("union_tag_not_found", "union_tag_invalid"):
        return Problem((name,), f"{name}.kind: a file of data/ must set it to mqar or text")
    if kind == "unexpected_keyword_argument":
        if key_name(name) in schema_keys():
            other = "text" if name in text_only_keys() else "mqar"
            return Problem(
                (name, "data.kind"),
                f"{name}={show(value)}: has no effect with this data; it needs data of kind {other}",
            )
        meant = did_you_mean(closest(name, [*schema_keys(), *sections()]))
        return Problem((name,), f"{name}={show(value)}: a file sets it, but there is no such key{meant}")
    if value == "???":
        return Problem((name,), f"{name}: nothing sets it; write {name}=VALUE")
    return Problem((name,), f"{name}={show(value)}: {_expected(details, name)}")


def _expected(details: ErrorDetails, name: str) -> str:
    key = schema_keys().get(key_name(name))
    or_null = " or null" if key and key.nullable else ""
    if details["type"] == "literal_error" and key:
        guess = closest(show(details["input"]), key.allowed)
        return f"must be one of {', '.join(key.allowed)}{or_null}{did_you_mean(guess)}"
    if details["type"] == "string_pattern_mismatch":
        return "must be letters, digits, _, . and -, in parts separated by /, none beginning with a dot"
    message = details["msg"].replace("Input should be", "must be").replace("List should have", "must have")
    return message.replace(" after validation", "").replace("a valid array", "a list: [A,B]") + or_null


def _key(location: tuple[int | str, ...]) -> str:
    parts = [str(part) for part in location]
    # pydantic names the member of the union that it tried: data.text.seq_len
    if parts[:1] == ["data"] and parts[1:2] in (["mqar"], ["text"]):
        del parts[1]
    return ".".join(parts)
