"""The presets of conf/data: possible as they stand, and the field's numbers where they claim them."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from rla_exp.config.schema import MqarConfig, MqarSegment, TextConfig
from rla_exp.data import build_data
from rla_exp.data.mqar import mqar_problems
from rla_exp.data.text import text_problems

FOLDER = Path(__file__).parents[2] / "conf" / "data"
PRESETS = sorted(path.stem for path in FOLDER.glob("*.yaml"))


def preset(name):
    settings = yaml.safe_load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))
    if settings["kind"] == "text":
        return TextConfig(**settings)
    for split in ("train", "valid", "test"):
        settings[split] = [MqarSegment(**segment) for segment in settings[split]]
    return MqarConfig(**settings)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_possible_and_named_as_its_file(name):
    config = preset(name)
    assert config.name == name
    assert (FOLDER / f"{name}.yaml").read_text(encoding="utf-8").startswith("# @package data\n# ")
    problems = mqar_problems(config) if isinstance(config, MqarConfig) else text_problems(config)
    # files has no default: the user says which
    assert [problem.split(":")[0] for problem in problems] == (["data.paths is empty"] if name == "files" else [])


def test_zoology_has_the_published_numbers(tmp_path):
    data = build_data(preset("mqar_zoology"), seed=0, cache_dir=tmp_path)
    # 180,000 sequences in batches of 256 of one segment each
    assert data.batches_per_epoch == 707
    assert data.num_eval_batches("test") == 7 * 32
    last = data.eval_batch("test", 7 * 32 - 1)
    assert last.tokens.shape == (8, 1024)
    assert ((last.labels != -100).sum(1) == 256).all()
    shapes = [tuple(data.train_batch(i).tokens.shape) for i in (0, 390, 391, 706, 707)]
    assert shapes == [(256, 64), (160, 64), (256, 128), (32, 256), (256, 64)]


def test_dense_sequences_have_no_distractors(tmp_path):
    data = build_data(preset("mqar_dense"), seed=0, cache_dir=tmp_path)
    # 4, 8, 12 and 16 pairs in batches of 256: every place after the keys and values holds a query or its value
    for index, pairs in zip((0, 4, 8, 12), (4, 8, 12, 16), strict=True):
        batch = data.eval_batch("test", index)
        assert batch.tokens.shape == (256, 4 * pairs)
        queried = (batch.labels != -100).sum(1)
        assert (queried == pairs).all()


def test_rewritten_keys_ask_for_the_last_of_three_values(tmp_path):
    data = build_data(preset("mqar_rewrites"), seed=0, cache_dir=tmp_path)
    for index, pairs in zip((0, 4, 8, 12), (4, 8, 12, 16), strict=True):
        batch = data.eval_batch("test", index)
        assert batch.tokens.shape == (256, 8 * pairs)
        for row, wanted in zip(batch.tokens.tolist(), batch.labels.tolist(), strict=True):
            last = dict(zip(row[0 : 6 * pairs : 2], row[1 : 6 * pairs : 2], strict=True))
            assert {row[i]: wanted[i] for i in range(len(row)) if wanted[i] != -100} == last
    # 40,000 sequences each of 4 and 8 keys in batches of 64
    assert data.batches_per_epoch == 2 * 625
