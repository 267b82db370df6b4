"""Types of values that the schema is made of: what a key accepts beyond its Python type."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field


def _number_to_text(value: Any) -> Any:
    # hydra reads `experiment=2024` and `trainer.precision=32` as numbers
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _false_to_off(value: Any) -> Any:
    # YAML reads a bare `off` as false
    return "off" if value is False else value


def _text_to_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


number_is_text = BeforeValidator(_number_to_text)
false_is_off = BeforeValidator(_false_to_off)
text_is_list = BeforeValidator(_text_to_list)

Text = Annotated[str, number_is_text]
TextList = Annotated[list[Text], text_is_list]
"""A list of texts; one text stands for a list of one, so that `data.paths=notes.txt` means what it says."""
FolderName = Annotated[str, number_is_text, Field(pattern=r"^\w[\w.-]*(/\w[\w.-]*)*$")]
"""Part of a path below `runs/`: letters, digits, `_`, `.`, `-` in parts separated by `/`, none beginning with a dot."""

Count = Annotated[int, Field(gt=0)]
CountOrZero = Annotated[int, Field(ge=0)]
TwoOrMore = Annotated[int, Field(ge=2)]
Positive = Annotated[float, Field(gt=0)]
PositiveOrZero = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(gt=0, lt=1)]
"""Strictly between 0 and 1."""
Ratio = Annotated[float, Field(ge=0, le=1)]
Momentum = Annotated[float, Field(ge=0, lt=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
