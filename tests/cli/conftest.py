"""Shared by the tests of commands."""

import sys
from types import ModuleType

import pytest

from rla_exp.cli.flags import parse_flags
from rla_exp.cli.hydra_settings import is_hydras
from rla_exp.config import compose, compose_sweep, identity
from rla_exp.errors import ConfigError
from rla_exp.runs import Result, RunFolder


class FakeTraining:
    """Stands in for rla_exp.lit.train: keeps what it was asked to train and leaves a result of one number."""

    def __init__(self):
        self.trained = []
        self.error = None

    def train_run(self, composed):
        if self.error is not None:
            raise self.error
        self.trained.append(composed)
        full = identity(composed.resolved, corpus_sha256=None, device_type="cpu", threads=1)
        folder = RunFolder.of(composed.config, full)
        result = folder.read_result()
        if result is None:
            folder.create()
            result = Result({"valid/accuracy": 0.5, "test/accuracy": 0.25}, {}, {"identity": full})
            folder.write_result(result)
        return result


@pytest.fixture
def training(monkeypatch, tmp_path):
    """A training that takes no time, in an empty working directory."""
    fake = FakeTraining()
    module = ModuleType("rla_exp.lit.train")
    module.train_run = fake.train_run
    monkeypatch.setitem(sys.modules, "rla_exp.lit.train", module)
    monkeypatch.chdir(tmp_path)
    return fake


@pytest.fixture
def problems_of():
    """What is wrong with the settings among the words after a command's name."""

    def find(words):
        flags = parse_flags(words)
        try:
            settings = [override for override in flags.overrides if not is_hydras(override)]
            (compose_sweep if flags.multirun else compose)(settings)
        except ConfigError as error:
            return list(error.problems)
        return []

    return find
