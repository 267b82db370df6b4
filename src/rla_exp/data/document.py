"""The unit of text: what is held out as a whole, and what boundaries keep apart."""

from __future__ import annotations

from typing import NamedTuple

from rla_exp.data.batch import Split


class Document(NamedTuple):
    """One text with the name that decides into which split it falls."""

    name: str
    text: str
    split: Split | None = None
    """The split it belongs to where its source says so; None: a hash of the name decides."""
    domain: int | None = None
    """The place of its file among those of the test split, where that has files of its own."""
