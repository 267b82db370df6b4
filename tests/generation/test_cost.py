"""What a token costs: a linear model carries the same bytes after any number of tokens, a transformer ever more."""

from __future__ import annotations

import csv
import json

import pytest

from rla_exp.cli.decoding_cost import main
from rla_exp.generation.cost import decoding_costs


@pytest.mark.parametrize("name", ["rdn", "rla", "mamba2"])
def test_a_linear_model_carries_constant_bytes(name, make_model):
    model = make_model(name)
    costs = list(decoding_costs(model, [20, 40, 200], window=10))
    assert [cost.tokens for cost in costs] == [20, 40, 200]
    assert {cost.cache_bytes for cost in costs} == {model.state_bytes(1)}
    assert all(cost.milliseconds > 0 for cost in costs)


def test_a_transformers_cache_grows_by_the_token(make_model):
    model = make_model("transformer")
    costs = list(decoding_costs(model, [20, 40, 1000], window=10))
    assert [cost.cache_bytes for cost in costs] == [model.state_bytes(tokens) for tokens in (20, 40, 1000)]


def test_the_command_writes_data_and_figure(tmp_path, capsys):
    assert main(["tokens=400", f"results={tmp_path}"]) == 0
    folder = tmp_path / "generation" / "cpu"
    assert {file.name for file in folder.iterdir()} == {"costs.csv", "costs.json", "figure.png", "figure.svg"}
    content = json.loads((folder / "costs.json").read_text(encoding="utf-8"))
    assert content["command"] == "python scripts/decoding_cost.py models=rdn,transformer tokens=400"
    rows = list(csv.DictReader((folder / "costs.csv").read_text(encoding="utf-8").splitlines()))
    bytes_after = {(row["model"], row["tokens"]): int(row["cache_bytes"]) for row in rows}
    assert bytes_after["rdn", "400"] == bytes_after["rdn", "2"]
    # keys and values of 16 in float32
    assert bytes_after["transformer", "400"] == 400 * 2 * 16 * 4
    assert "figure.png" in capsys.readouterr().out


def test_an_unknown_model_is_refused(tmp_path, capsys):
    assert main(["models=rdn,transfomer", f"results={tmp_path}"]) == 1
    assert "did you mean transformer" in capsys.readouterr().err
