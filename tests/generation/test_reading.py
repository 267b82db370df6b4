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
    groups = read_prompts(model, PROMPTS)
    assert sorted(row for group in groups for row in group.rows) == [0, 1, 2, 3, 4]
    # those that know positions go on by length
    assert [len(group.rows) for group in groups] == ([1, 1, 2, 1] if name in ("transformer", "retnet") else [5])
    for group in groups:
        steps = decode(
            EagerStep(model, group.state.cache), group.state, Sampler(Sampling(), group.rows), model.vocab_size
        )
        written = torch.stack([next(steps) for _ in range(8)], dim=1)
        for row, tokens in zip(group.rows, written.tolist(), strict=True):
            assert tokens == greedy(model, PROMPTS[row], 8), f"prompt {row}"


@pytest.mark.parametrize("name", ["rdn", "retnet", "transformer"])
def test_states_equal_those_of_a_single_pass(name, make_model):
    model = make_model(name).double()
    for group in read_prompts(model, PROMPTS):
        for place, row in enumerate(group.rows):
            with torch.no_grad():
                expected = model(torch.tensor([PROMPTS[row]]))[0, -1]
            torch.testing.assert_close(group.state.logits[place], expected, rtol=1e-10, atol=1e-10)
            assert group.state.seen[place].nonzero().flatten().tolist() == sorted(set(PROMPTS[row]))


@pytest.mark.parametrize("name", ["rla", "transformer"])
def test_several_prompts_after_one_state(name, make_model):
    model = make_model(name).double()
    (prefix,) = read_prompts(model, [[1, 2, 3]])
    before = {key: tensor.clone() for key, tensor in prefix.state.cache.tensors().items()}
    endings = [[4], [], [5, 6, 7]]
    for group in read_prompts(model, endings, after=prefix.state):
        for place, row in enumerate(group.rows):
            with torch.no_grad():
                expected = model(torch.tensor([[1, 2, 3, *endings[row]]]))[0, -1]
            torch.testing.assert_close(group.state.logits[place], expected, rtol=1e-10, atol=1e-10)
    assert all(torch.equal(tensor, before[key]) for key, tensor in prefix.state.cache.tensors().items())


@pytest.mark.parametrize("name", ["rdn", "transformer"])
def test_a_long_prompt_is_read_in_parts(name, make_model, monkeypatch):
    model = make_model(name).double()
    tokens = torch.randint(257, (2, 50), generator=torch.Generator().manual_seed(0))
    (whole,) = read_prompts(model, tokens.tolist())
    monkeypatch.setattr("rla_exp.generation.reading.READ_AT_ONCE", 14)
    monkeypatch.setattr("rla_exp.generation.reading.READ_AT_ONCE_MASKED", 5)
    (parts,) = read_prompts(model, tokens.tolist())
    torch.testing.assert_close(parts.state.logits, whole.state.logits, rtol=1e-10, atol=1e-10)
    read_on(model, parts.state, tokens[:, :9])
    assert parts.state.cache.length == 59


def test_a_damaged_model_is_told(make_model):
    model = make_model("rla")
    with torch.no_grad():
        model.norm.weight[0] = torch.nan
    with pytest.raises(RunError, match="not finite"):
        read_prompts(model, [[1, 2]])
