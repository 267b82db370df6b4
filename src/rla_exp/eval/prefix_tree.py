"""Which tokens requests have in common at their beginnings, so that a model reads them once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Tokens = NDArray[np.int64]

MIN_SHARED = 8
"""Tokens that are worth the copy of a state."""


@dataclass
class Segment:
    """Tokens that follow one another; read after those of the parent, before those of the children."""

    tokens: Tokens
    """[n], n >= 1."""
    start: int
    """Tokens of the same rows before these."""
    rows: list[int]
    """The rows that contain these tokens here: one for a leaf."""
    children: list[Segment] = field(default_factory=list)

    @property
    def end(self) -> int:
        """Tokens of the rows up to the last one of these."""
        return self.start + len(self.tokens)


def prefix_tree(rows: Sequence[Tokens], *, min_shared: int | None = MIN_SHARED) -> list[Segment]:
    """The rows as a forest in which common beginnings stand once.

    Args:
        rows: [n] tokens each, n >= 1.
        min_shared: a segment is shared where it has so many tokens; None: every row is a segment of its own.

    Returns:
        the segments that begin rows. A row's segments, joined, are the row.
    """
    if min_shared is None:
        return [Segment(row, 0, [index]) for index, row in enumerate(rows)]
    # big-endian numbers of one width sort as the tokens do
    keys = [row.astype(">u4").tobytes() for row in rows]
    order = sorted(range(len(rows)), key=keys.__getitem__)
    common = [0, *(_num_common(rows[a], rows[b]) for a, b in pairwise(order))]

    def split(low: int, high: int, start: int) -> list[Segment]:
        """The segments of order[low:high], rows whose first `start` tokens are the same."""
        segments = []
        while low < high:
            end = low + 1
            while end < high and common[end] >= start + min_shared:
                end += 1
            row = rows[order[low]]
            if end - low > 1:
                shared = min(common[low + 1 : end])
                children = split(low, end, shared)
                segments.append(Segment(row[start:shared], start, order[low:end], children))
            elif len(row) > start:
                segments.append(Segment(row[start:], start, [order[low]]))
            low = end
        return segments

    return split(0, len(rows), 0)


def _num_common(one: Tokens, other: Tokens) -> int:
    length = min(len(one), len(other))
    differs = one[:length] != other[:length]
    return int(differs.argmax()) if differs.any() else length
