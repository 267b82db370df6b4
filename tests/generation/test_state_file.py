"""Decoding states on disk."""

from __future__ import annotations

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from rla_exp.data.tokenizer import ByteTokenizer
from rla_exp.errors import RunError
from rla_exp.generation import Sampling, TextGenerator, load_state, read_prompts, save_state
from rla_exp.generation.decoding import EagerStep


@pytest.mark.parametrize("name", ["rdn", "mamba2", "retnet", "transformer"])
def test_going_on_from_a_file_is_going_on(name, make_model, tmp_path):
    model = make_model(name)
    generator = TextGenerator(model, ByteTokenizer())
    state = generator.read("The long prompt that is read once.")
    save_state(state, tmp_path / "state.safetensors", model)
    loaded = load_state(tmp_path / "state.safetensors", make_model(name))
    assert loaded.cache.length == 34
    for key, tensor in state.cache.tensors().items():
        assert torch.equal(tensor, loaded.cache.tensors()[key])
    arguments = {"max_new_tokens": 12, "sampling": Sampling(repetition_penalty=1.3)}
    expected = generator.generate(["And?", ""], after=state, **arguments)
    assert generator.generate(["And?", ""], after=loaded, **arguments) == expected


@pytest.mark.parametrize("name", ["rdn", "transformer"])
def test_rows_of_different_lengths_are_kept(name, make_model, tmp_path):
    model = make_model(name)
    state = read_prompts(model, [[1, 2, 3], [4], [5, 6]])
    save_state(state, tmp_path / "state", model)
    loaded = load_state(tmp_path / "state", model)
    assert loaded.cache.lengths.tolist() == [3, 1, 2]
    step, tokens = EagerStep(model, state.cache), torch.tensor([7, 8, 9])
    assert torch.equal(step(tokens), EagerStep(model, loaded.cache)(tokens))


def test_the_first_word_after_a_file_keeps_its_space(make_model, tmp_path):
    class SpacesBetween(ByteTokenizer):
        """As sentencepiece has it: a space before every word but the first."""

        def decode(self, tokens):
            return " ".join(str(token) for token in tokens)

    model = make_model("rdn").double()
    generator = TextGenerator(model, SpacesBetween())
    (whole,) = generator.generate(["A long prompt"], max_new_tokens=3)
    assert whole.text.startswith(" ")
    save_state(generator.read("A long prompt"), tmp_path / "state", model)
    (after,) = generator.generate([""], max_new_tokens=3, after=load_state(tmp_path / "state", model))
    assert after == whole


def test_files_of_before_are_refused(make_model, tmp_path):
    model = make_model("rla")
    path = tmp_path / "state"
    save_state(TextGenerator(model, ByteTokenizer()).read("x"), path, model)
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    save_file(load_file(path), path, {**metadata, "format": "rla_exp decoding state 1"})
    with pytest.raises(RunError, match="no decoding state of this version of rla_exp; have the prompt read again"):
        load_state(path, model)


def test_the_file_of_a_linear_model_does_not_grow(make_model, tmp_path):
    sizes = []
    for length in (10, 3000):
        model = make_model("rla")
        save_state(TextGenerator(model, ByteTokenizer()).read("x" * length), tmp_path / "state", model)
        sizes.append((tmp_path / "state").stat().st_size)
    assert sizes[1] - sizes[0] < 16  # digits of the length


def test_another_model_is_refused(make_model, tmp_path):
    path = tmp_path / "state"
    model = make_model("rla")
    save_state(TextGenerator(model, ByteTokenizer()).read("x"), path, model)
    for other in (make_model("rla", seed=1), make_model("rla", clip=None), make_model("rdn")):
        with pytest.raises(RunError, match="written by another model"):
            load_state(path, other)


def test_damaged_files_are_refused(make_model, tmp_path):
    model = make_model("rla")
    path = tmp_path / "state"
    with pytest.raises(RunError, match="cannot read the state"):
        load_state(path, model)
    path.write_bytes(b"no safetensors at all")
    with pytest.raises(RunError, match="cannot read the state"):
        load_state(path, model)
    save_file({"x": torch.zeros(1)}, path)
    with pytest.raises(RunError, match="no decoding state"):
        load_state(path, model)

    save_state(TextGenerator(model, ByteTokenizer()).read("x"), path, model)
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    tensors = load_file(path)
    tensors["layers.0.S"] = tensors["layers.0.S"][..., :-1].contiguous()
    del tensors["seen"]
    save_file(tensors, path, metadata)
    with pytest.raises(RunError, match=r"damaged: layers\.0\.S, seen do not fit"):
        load_state(path, model)


def test_a_place_that_cannot_be_written(make_model, tmp_path):
    model = make_model("rla")
    with pytest.raises(RunError, match="cannot write the state"):
        save_state(TextGenerator(model, ByteTokenizer()).read("x"), tmp_path / "none" / "state", model)
