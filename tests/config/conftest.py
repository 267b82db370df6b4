"""Shared by the tests of configurations."""

from collections.abc import Callable

import pytest

from rla_exp.config import compose, compose_sweep
from rla_exp.errors import ConfigError

Problems = Callable[..., list[str]]


@pytest.fixture
def problems() -> Problems:
    """Every problem of a run (or, with sweep=True, a sweep) that must not compose."""

    def find(*overrides: str, sweep: bool = False) -> list[str]:
        with pytest.raises(ConfigError) as caught:
            (compose_sweep if sweep else compose)(overrides)
        return list(caught.value.problems)

    return find
