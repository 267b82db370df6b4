"""Text from text."""

from __future__ import annotations

import logging

import pytest
import torch

from rla_exp.data.tokenizer import ByteTokenizer
from rla_exp.errors import ConfigError
from rla_exp.generation import Sampling, TextGenerator
from rla_exp.models import LanguageModel

PROMPTS = ["A needle", "", "Once upon a time there", "B needle"]


def scripted(model: LanguageModel, text: bytes) -> LanguageModel:
    """The model made to write `text` over and over, whatever it reads; no byte of it may come twice."""
    tokens = list(text)
    assert len(set(tokens)) == len(tokens)
    following = dict(zip(tokens, [*tokens[1:], tokens[0]], strict=True))

    def head(hidden: torch.Tensor) -> torch.Tensor:
        return hidden

    def hidden(row: torch.Tensor, *, cache: object) -> torch.Tensor:
        nexts = [[following.get(int(token), tokens[0]) for token in line] for line in row]
        return torch.nn.functional.one_hot(torch.tensor(nexts), model.vocab_size).float()

    model.head, model.hidden = head, hidden  # type: ignore[method-assign,assignment]
    return model


def test_greedy_text_is_the_models_own(make_model, greedy):
    model = make_model("rdn").double()
    tokenizer = ByteTokenizer()
    completions = TextGenerator(model, tokenizer).generate(PROMPTS, max_new_tokens=12)
    for prompt, completion in zip(PROMPTS, completions, strict=True):
        # an empty prompt begins where a document ended
        tokens = greedy(model, list(prompt.encode()) or [256], 12)
        if 256 in tokens:
            tokens = tokens[: tokens.index(256) + 1]
        assert completion.num_tokens == len(tokens)
        assert completion.text == tokenizer.decode(tokens)
        assert completion.finish_reason == ("end" if tokens[-1] == 256 else "length")


def test_pieces_make_the_completions(make_model):
    generator = TextGenerator(make_model("retnet"), ByteTokenizer())
    arguments = {"max_new_tokens": 20, "sampling": Sampling(temperature=1.0, seed=4)}
    texts = [""] * len(PROMPTS)
    ended = []
    for piece in generator.stream(PROMPTS, **arguments):
        texts[piece.prompt] += piece.text
        if piece.finish_reason is not None:
            ended.append(piece.prompt)
    completions = generator.generate(PROMPTS, **arguments)
    assert texts == [completion.text for completion in completions]
    assert sorted(ended) == [0, 1, 2, 3]


def test_samples_depend_on_seed_and_place_but_not_on_the_other_prompts(make_model):
    generator = TextGenerator(make_model("rla").double(), ByteTokenizer())

    def written(prompts: list[str], seed: int = 0) -> list[str]:
        sampling = Sampling(temperature=1.5, seed=seed)
        return [completion.text for completion in generator.generate(prompts, max_new_tokens=15, sampling=sampling)]

    texts = written(["same", "same", "another one"])
    assert texts[0] == written(["same"])[0] == written(["same", "x"])[0]
    assert texts[0] != texts[1]
    assert texts != written(["same", "same", "another one"], seed=1)


def test_a_stop_string_ends_a_completion(make_model):
    generator = TextGenerator(scripted(make_model("rla"), b"one tw."), ByteTokenizer())
    (completion,) = generator.generate(["x"], max_new_tokens=50, stop=["w.", "zzz"])
    assert (completion.text, completion.finish_reason, completion.num_tokens) == ("one t", "stop", 7)
    (completion,) = generator.generate(["x"], max_new_tokens=9)
    assert (completion.text, completion.finish_reason, completion.num_tokens) == ("one tw.on", "length", 9)
    # "w" is held back for "wz" until it is clear that this does not come
    (completion,) = generator.generate(["x"], max_new_tokens=6, stop=["wz"])
    assert (completion.text, completion.finish_reason) == ("one tw", "length")


def test_the_end_of_a_document_ends_a_completion(make_model):
    class SpaceEnds(ByteTokenizer):
        end = ord(" ")

    generator = TextGenerator(scripted(make_model("rla"), b"one tw."), SpaceEnds())
    (completion,) = generator.generate(["x"], max_new_tokens=50)
    assert (completion.text, completion.finish_reason, completion.num_tokens) == ("one", "end", 4)


def test_a_prompt_read_once_serves_many_questions(make_model):
    generator = TextGenerator(make_model("gated_delta_net").double(), ByteTokenizer())
    state = generator.read("A long text. ")
    endings = ["What?", "", "Who was it?"]
    after = generator.generate(endings, max_new_tokens=10, after=state)
    whole = generator.generate(["A long text. " + ending for ending in endings], max_new_tokens=10)
    assert [completion.text for completion in after] == [completion.text for completion in whole]
    longer = generator.read("Who was", after=generator.read("A long text. "))
    (completion,) = generator.generate([" it?"], max_new_tokens=10, after=longer)
    assert completion.text == whole[2].text


def test_rows_of_the_embedding_beyond_the_tokenizer_are_never_written(make_model):
    model = make_model("rla", vocab_size=300)
    with torch.no_grad():
        # the likeliest token after anything is one that bytes do not have
        model.embedding.weight[290:] *= 100
    (completion,) = TextGenerator(model, ByteTokenizer()).generate(["x"], max_new_tokens=30)
    assert completion.num_tokens <= 30


@pytest.mark.parametrize(
    ("name", "prompt", "message"),
    [
        ("transformer", "x" * 40, "a prompt of 40 tokens goes beyond the 32 tokens"),
        ("transformer", "x" * 30, "a prompt of 30 tokens and 5 new ones go beyond the 32 tokens"),
        ("transformer", "x" * 27, None),
        ("rla", "x" * 40, None),
    ],
)
def test_a_transformer_beyond_its_trained_length_warns(name, prompt, message, make_model, caplog):
    generator = TextGenerator(make_model(name), ByteTokenizer(), trained_length=32)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            (completion,) = generator.generate([prompt], max_new_tokens=5)
    assert completion.num_tokens >= 1
    assert ([message in text for text in caplog.messages]) == ([] if message is None else [True])


def test_settings_that_cannot_be(make_model):
    generator = TextGenerator(make_model("rla"), ByteTokenizer())
    with pytest.raises(ConfigError) as error:
        generator.generate(["x"], max_new_tokens=0, stop=[""])
    assert len(error.value.problems) == 2
    assert generator.generate([], max_new_tokens=1) == []


def test_gradients_are_as_before_between_pieces(make_model):
    """A stream that waits for its consumer must not leave the consumer without gradients."""
    stream = TextGenerator(make_model("rla"), ByteTokenizer()).stream(["x"], max_new_tokens=3)
    next(stream)
    assert torch.is_grad_enabled()
