"""Prompts of different lengths: each row is what it is alone, for every backbone."""

from __future__ import annotations

import pytest
import torch

from rla_exp.errors import RunError
from rla_exp.generation.decoding import EagerStep, decode
from rla_exp.generation.reading import read_on, read_prompts
from rla_exp.generation.sampling import Sampler, Sampling

BACKBONES = ["transformer", "linear_attention", "retnet", "mamba2", "delta_net", "gated_delta_net", "rla", "rdn"]
PROMPTS = [[5, 6, 7, 8, 9], [1], [10, 11, 12, 13, 14, 15, 16, 17, 18, 19], [2, 3, 4, 5, 6], [40, 41]]


@pytest.mark.parametrize("name", BACKBONES)
def test_rows_of_a_batch_are_what_they_are_alone(name, make_model, greedy):
    model = make_model(name).double()
    state = read_prompts(model, PROMPTS)
    assert state.cache.lengths.tolist() == [5, 1, 10, 5, 2]
    steps = decode(EagerStep(model, state.cache), state, Sampler(Sampling(), range(5)), model.vocab_size)
    written = torch.stack([next(steps) for _ in range(8)], dim=1)
    for prompt, tokens in zip(PROMPTS, written.tolist(), strict=True):
        assert tokens == greedy(model, prompt, 8), f"prompt {prompt}"


@pytest.mark.parametrize("name", ["rdn", "retnet", "transformer"])
@pytest.mark.parametrize("longer_by", [0, 130])
def test_states_equal_those_of_a_single_pass(name, longer_by, make_model):
    """With 130 tokens more, the rows are first read side by side."""
    model = make_model(name).double()
    prompts = [[*range(longer_by), *prompt] for prompt in PROMPTS]
    state = read_prompts(model, prompts)
    for row, prompt in enumerate(prompts):
        with torch.no_grad():
            expected = model(torch.tensor([prompt]))[0, -1]
        torch.testing.assert_close(state.logits[row], expected, rtol=1e-10, atol=1e-10)
        assert state.seen[row].nonzero().flatten().tolist() == sorted(set(prompt))
        assert state.last[row].tolist() == [*[-1] * 8, *prompt][-8:]


@pytest.mark.parametrize("name", ["rla", "transformer"])
def test_several_prompts_after_one_state(name, make_model):
    model = make_model(name).double()
    prefix = read_prompts(model, [[1, 2, 3]])
    before = {key: tensor.clone() for key, tensor in prefix.cache.tensors().items()}
    endings = [[4], [], [5, 6, 7]]
    state = read_prompts(model, endings, after=prefix)
    assert state.last[:, 2:].tolist() == [[-1, -1, 1, 2, 3, 4], [-1, -1, -1, 1, 2, 3], [1, 2, 3, 5, 6, 7]]
    for row, ending in enumerate(endings):
        with torch.no_grad():
            expected = model(torch.tensor([[1, 2, 3, *ending]]))[0, -1]
        torch.testing.assert_close(state.logits[row], expected, rtol=1e-10, atol=1e-10)
    assert all(torch.equal(tensor, before[key]) for key, tensor in prefix.cache.tensors().items())


@pytest.mark.parametrize("name", ["rdn", "transformer"])
def test_a_long_prompt_is_read_in_parts(name, make_model, monkeypatch):
    model = make_model(name).double()
    tokens = torch.randint(257, (2, 50), generator=torch.Generator().manual_seed(0))
    whole = read_prompts(model, tokens.tolist())
    monkeypatch.setattr("rla_exp.generation.reading.READ_AT_ONCE", 14)
    monkeypatch.setattr("rla_exp.generation.reading.READ_AT_ONCE_MASKED", 5)
    parts = read_prompts(model, tokens.tolist())
    torch.testing.assert_close(parts.logits, whole.logits, rtol=1e-10, atol=1e-10)
    read_on(model, parts, tokens[:, :9])
    assert parts.cache.length == 59
    # of different lengths
    lengths = (50, 31)
    parts = read_prompts(model, [row[:length].tolist() for row, length in zip(tokens, lengths, strict=True)])
    for row, length in enumerate(lengths):
        (alone,) = read_prompts(model, [tokens[row, :length].tolist()]).logits
        torch.testing.assert_close(parts.logits[row], alone, rtol=1e-10, atol=1e-10)


def test_a_damaged_model_is_told(make_model):
    model = make_model("rla")
    with torch.no_grad():
        model.norm.weight[0] = torch.nan
    with pytest.raises(RunError, match="not finite"):
        read_prompts(model, [[1, 2]])
