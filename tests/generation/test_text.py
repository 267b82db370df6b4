"""Text as it streams: whole characters, no part of a stop string, and in the end the same as decoded at once."""

from __future__ import annotations

import numpy as np
import pytest

from rla_exp.data.tokenizer import ByteTokenizer, load_subword, train_bpe
from rla_exp.generation.text import StopStrings, TextStream

TEXT = "Grüße, 你好! 🦜🦜 e\u0301"


def test_characters_come_whole():
    stream = TextStream(ByteTokenizer().decode)
    pieces = [stream.add(byte) for byte in TEXT.encode()]
    assert "".join(pieces) + stream.flush() == TEXT
    assert not any("�" in piece for piece in pieces)
    assert [piece for piece in pieces if piece] == list(TEXT)


def test_half_a_character_at_the_end_is_replaced():
    stream = TextStream(ByteTokenizer().decode)
    assert [stream.add(byte) for byte in "aé".encode()[:2]] == ["a", ""]
    assert stream.flush() == "�"


def test_invalid_bytes_do_not_stall():
    stream = TextStream(ByteTokenizer().decode)
    pieces = [stream.add(0xFF) for _ in range(100)]
    assert max(len(piece) for piece in pieces) == 16
    assert "".join(pieces) + stream.flush() == "�" * 100


def test_random_bytes_are_as_decoded_at_once():
    tokens = np.random.default_rng(0).integers(256, size=2000).tolist()
    stream = TextStream(ByteTokenizer().decode)
    text = "".join(stream.add(token) for token in tokens) + stream.flush()
    assert text == ByteTokenizer().decode(tokens)


def test_subwords(tmp_path):
    train_bpe([TEXT * 20], 270, tmp_path)
    tokenizer = load_subword(tmp_path)
    (encoded,) = tokenizer.encode([TEXT])
    tokens = encoded.tokens[:-1].tolist()
    assert len(tokens) < len(TEXT.encode())
    stream = TextStream(tokenizer.decode, before=tokens[:3])
    text = "".join(stream.add(token) for token in tokens[3:]) + stream.flush()
    assert text == TEXT.removeprefix(tokenizer.decode(tokens[:3]))


def test_spaces_depend_on_what_stands_before():
    """As sentencepiece decodes: the first word loses its space."""
    words = ["▁a", "▁b", "▁c"]

    def decode(tokens):
        return "".join(words[token] for token in tokens).replace("▁", " ").lstrip(" ")

    stream = TextStream(decode, before=[0])
    assert stream.add(1) + stream.add(2) == " b c"


@pytest.mark.parametrize(
    ("pieces", "stops", "expected", "stopped"),
    [
        (["one ", "two\n", "three"], ["\n"], "one two", True),
        (["a", "b", "a", "b", "c"], ["abc"], "ab", True),
        (["aab", "x"], ["abc"], "aabx", False),
        (["say STOP", "PED"], ["STOP!", "PP"], "say STO", True),
        (["abc"], ["c", "b"], "a", True),
        (["ab"], ["abc"], "ab", False),
        (["no ", "stops"], [], "no stops", False),
    ],
)
def test_stop_strings(pieces, stops, expected, stopped):
    stop = StopStrings(stops)
    text = ""
    for piece in pieces:
        text += stop.add(piece)
        if stop.stopped:
            break
    text += stop.flush()
    assert (text, stop.stopped) == (expected, stopped)


def test_only_what_may_become_a_stop_string_is_held_back():
    stop = StopStrings(["\n\n", "###"])
    assert [stop.add(piece) for piece in ("a", "\n", "b#", "#", "c")] == ["a", "", "\nb", "", "##c"]
