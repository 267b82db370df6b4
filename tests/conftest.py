"""Shared by all tests."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def no_handler_is_left_behind() -> Iterator[None]:
    """Hydra's --info makes the root logger write to the stdout of its moment, which pytest closes after the test."""
    root = logging.getLogger()
    level, before = root.level, list(root.handlers)
    yield
    root.setLevel(level)
    for handler in list(root.handlers):
        # pytest's own handlers come and go by themselves; they are of derived classes
        if handler not in before and type(handler) is logging.StreamHandler:
            root.removeHandler(handler)
