"""Every experiment trains two steps on the CPU."""

import json
import math

import pytest

from rla_exp.cli.train import main
from rla_exp.config import conf_dir
from rla_exp.config.catalog import read_catalog


@pytest.mark.slow
@pytest.mark.parametrize("experiment", read_catalog(conf_dir()).options["experiment"])
def test_an_experiment_trains_two_steps(experiment, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main([f"experiment={experiment}", "debug=fast", f"paths.cache={tmp_path}/cache"]) == 0
    (file,) = tmp_path.rglob("result.json")
    metrics = json.loads(file.read_text())["metrics"]
    # two steps teach little: the loss is near that of guessing one of MQAR's 66 tokens, or of the 256 bytes
    tokens = 66 if "test/accuracy" in metrics else 256
    assert metrics["test/loss"] == pytest.approx(math.log(tokens), abs=1.0)
