"""Shared by the tests of commands."""

import shutil
import sys
from types import ModuleType, SimpleNamespace

import pytest

from rla_exp.cli import table as command
from rla_exp.cli.flags import parse_flags
from rla_exp.cli.hydra_settings import is_hydras
from rla_exp.config import compose, compose_sweep, identity
from rla_exp.errors import ConfigError
from rla_exp.report import TableSpec
from rla_exp.runs import Result, RunFolder

TABLE = """
title: A tiny table
caption: Two rows.
overrides:
  - model.d_model=16
  - model.head_dim_k=8
  - model.head_dim_v=8
  - data=mqar
  - data.vocab_size=32
  - data.batch_size=8
  - "data.train=[{length:16,num_pairs:2,num_examples:16}]"
  - "data.valid=[{length:16,num_pairs:2,num_examples:16}]"
  - "data.test=[{length:16,num_pairs:2,num_examples:16}]"
  - optim.warmup_steps=0
reference: full
groups:
  rdn: {label: RDN, overrides: [model=rdn]}
rows:
  full: {label: full, overrides: [ablation=full]}
  no_clip: {label: no clip, overrides: [ablation=no_clip]}
studies:
  mqar: {label: MQAR}
columns:
  accuracy:
    {kind: metric, study: mqar, label: 2 pairs, metric: test/accuracy@2, direction: max, format: .3f, figure: true}
  failed: {kind: failed, label: failed}
scales:
  smoke:
    caption: Two steps.
    lr_rule: none.
    seeds: [0, 1]
    overrides: [trainer.max_steps=2]
    studies:
      mqar: {}
"""


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


@pytest.fixture(scope="session")
def tiny_table():
    """A table of conf/table: two rows, two seeds, two steps."""
    return TABLE


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A folder with the table's description and its four runs."""
    root = tmp_path_factory.mktemp("table")
    (root / "tiny.yaml").write_text(TABLE)
    with pytest.MonkeyPatch.context() as patch:
        _use_tables(patch, root)
        assert command.main(["table=tiny", "scale=smoke", f"runs={root / 'runs'}", f"results={root / 'results'}"]) == 0
    return root


@pytest.fixture
def use_tables(monkeypatch):
    """use_tables(folder): read tables from a folder of the test's own."""
    return lambda folder: _use_tables(monkeypatch, folder)


def _use_tables(patch, folder):
    load = TableSpec.load
    patch.setattr(command, "table_names", lambda: sorted(file.stem for file in folder.glob("*.yaml")))
    patch.setattr(
        command,
        "TableSpec",
        SimpleNamespace(load=lambda name, scale, seeds, **more: load(name, scale, seeds, folder=folder, **more)),
    )


@pytest.fixture
def run(trained, tmp_path, use_tables, capsys):
    """run("mixed=true") is the command over a copy of the trained runs: exit code, output, errors."""
    use_tables(trained)
    # each run's folder hangs on its configuration, but for the paths
    shutil.copytree(trained / "runs", tmp_path / "runs")

    def call(*arguments):
        places = [f"runs={tmp_path / 'runs'}", f"results={tmp_path / 'results'}"]
        code = command.main(["table=tiny", "scale=smoke", *places, *arguments])
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return call
