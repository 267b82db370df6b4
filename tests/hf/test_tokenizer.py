"""The exported tokenizer is ours, and loads without this package."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from transformers import AutoTokenizer

from rla_exp.data.tokenizer import ByteTokenizer, load_subword, train_bpe
from rla_exp.errors import DataError
from rla_exp.hf.tokenizer import fast_tokenizer

TEXTS = [
    "Two  spaces, a tab\tand\r\nlines\n\n",
    " . , don't n't it's",
    "Grüße, 東京 \U0001f3f3\ufe0f\u200d\U0001f308",
    "\x00\x01\x7f\x80\u00ad",
    "<|endoftext|> spelled out",
    "a" * 300,
    "",
]
# parts of characters: text that a byte-level model can write
BROKEN = [[0xE2, 0x82], [0xFF, 0x41, 0xC3], [0xF0, 0x9F, 0x41], [0xC3, 0xA9, 0xC3]]


@pytest.fixture(params=["bytes", "bpe"])
def ours(request, tmp_path):
    if request.param == "bytes":
        return ByteTokenizer()
    folder = tmp_path / "bpe"
    folder.mkdir()
    train_bpe(["the quick brown fox jumps over the lazy dog, don't it? "] * 20, 300, folder)
    return load_subword(folder)


@pytest.fixture
def saved(ours, tmp_path):
    fast_tokenizer(ours).save_pretrained(tmp_path / "saved")
    return tmp_path / "saved"


def test_ids_and_texts_are_ours(ours, saved):
    theirs = AutoTokenizer.from_pretrained(saved)
    for text in TEXTS:
        ids = ours.encode([text])[0].tokens[:-1].tolist()
        assert theirs(text).input_ids == ids
        assert theirs.decode(ids) == ours.decode(ids) == text
    assert len(theirs) == ours.vocab_size
    assert {theirs.bos_token_id, theirs.eos_token_id, theirs.pad_token_id} == {ours.end}
    assert theirs.decode([*ids, ours.end], skip_special_tokens=True) == ours.decode([*ids, ours.end])


def test_parts_of_characters_decode_alike(ours, saved):
    theirs = AutoTokenizer.from_pretrained(saved)
    for ids in BROKEN:
        assert theirs.decode(ids) == ours.decode(ids)


def test_batches_are_padded_on_the_left(ours, saved):
    batch = AutoTokenizer.from_pretrained(saved)(["the", "the quick brown"], padding=True)
    short, long = batch.input_ids
    padding = len(long) - batch.attention_mask[0].count(1)
    assert padding > 0
    assert short[:padding] == [ours.end] * padding
    assert batch.attention_mask[0] == [0] * padding + [1] * (len(long) - padding)


def test_it_loads_in_a_process_that_knows_nothing_of_us(tmp_path):
    fast_tokenizer(ByteTokenizer()).save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "rla_exp"}', encoding="utf-8")
    code = (
        "import sys; sys.modules['rla_exp'] = None\n"
        "from transformers import AutoTokenizer\n"
        "print(AutoTokenizer.from_pretrained(sys.argv[1])('Grüße').input_ids)"
    )
    run = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True)
    assert bytes(json.loads(run.stdout)).decode() == "Grüße"


def test_what_a_foreign_tokenizer_puts_around_a_text_is_left_out(tmp_path):
    foreign = fast_tokenizer(ByteTokenizer()).backend_tokenizer
    content = json.loads(foreign.to_str())
    content["added_tokens"] = []
    content["post_processor"] = {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": True,
        "use_regex": True,
    }
    content["truncation"] = {"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0}
    (tmp_path / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    ours = load_subword(tmp_path)
    # a vocabulary without an end gets it as one more token
    assert (ours.end, ours.vocab_size) == (256, 257)
    theirs = fast_tokenizer(ours)
    assert theirs("abcdef").input_ids == [97, 98, 99, 100, 101, 102]
    assert theirs.eos_token_id == 256
    assert theirs.decode([97, 256]) == "a<|endoftext|>"


def test_numbers_with_gaps_have_no_place_for_the_end(tmp_path):
    content = json.loads(fast_tokenizer(ByteTokenizer()).backend_tokenizer.to_str())
    content["added_tokens"] = []
    content["model"]["vocab"]["ab"] = 400
    (tmp_path / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(DataError, match="token 401 of the model, would be number 257"):
        fast_tokenizer(load_subword(tmp_path))


def test_tokenizers_of_other_kinds_are_refused():
    with pytest.raises(TypeError, match="object has no tokenizer"):
        fast_tokenizer(object())
