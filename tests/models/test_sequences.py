"""One sequence in its many forms: whole, token by token, in pieces, packed; and nothing looks ahead."""

from __future__ import annotations

from typing import get_args

import pytest
import torch
from torch import Tensor

from rla_exp.config.schema import ModelName

every_model = pytest.mark.parametrize("name", get_args(ModelName))
LENGTH = 70


def _tokens(batch_size: int = 2, length: int = LENGTH) -> Tensor:
    return torch.randint(29, (batch_size, length), generator=torch.Generator().manual_seed(0))


def _assert_close(actual: Tensor, expected: Tensor) -> None:
    """Within 1e-4 of the largest logit, which is no small one."""
    assert expected.abs().max() > 1
    assert (actual - expected).abs().max() < 1e-4 * expected.abs().max()


@every_model
@torch.no_grad()
def test_decoding_equals_the_parallel_form(make_model, name):
    model, tokens = make_model(name), _tokens()
    cache = model.new_cache(2)
    steps = [model(tokens[:, t : t + 1], cache=cache) for t in range(LENGTH)]
    _assert_close(torch.cat(steps, dim=1), model(tokens))


@every_model
@torch.no_grad()
def test_a_cache_goes_on_with_pieces_of_any_length(make_model, name):
    model, tokens = make_model(name), _tokens()
    cache = model.new_cache(2)
    # shorter than the convolution, a step between two pieces, longer than a chunk would leave
    pieces = [model(piece, cache=cache) for piece in tokens.split([2, 40, 1, 3, 24], dim=1)]
    _assert_close(torch.cat(pieces, dim=1), model(tokens))
    assert cache.length == LENGTH


@every_model
def test_decoding_works_where_gradients_are_recorded(make_model, name):
    model, tokens = make_model(name), _tokens()
    cache = model.new_cache(2)
    logits = torch.cat([model(piece, cache=cache) for piece in tokens.split([40, 1, 29], dim=1)], dim=1)
    _assert_close(logits.detach(), model(tokens).detach())


@every_model
@pytest.mark.parametrize("length", [1, 40])
def test_a_fresh_cache_takes_no_gradients_away(make_model, name, length):
    model, tokens = make_model(name).double(), _tokens(length=length)
    parameters = list(model.parameters())
    gradients = []
    for cache in (None, model.new_cache(2)):
        loss = model(tokens, cache=cache).sin().sum()
        gradients.append(torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True))
    for got, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-9)
    assert length == 1 or all(expected.abs().max() > 0 for expected in gradients[0])


@every_model
@pytest.mark.parametrize(
    "lengths",
    # of any length; windows of 14; windows of 35 with documents inside
    [[3, 1, 34, 2, 30], [14, 14, 14, 14, 14], [20, 15, 35]],
)
@torch.no_grad()
def test_packed_documents_equal_separate_ones(make_model, name, lengths):
    model, tokens = make_model(name), _tokens(batch_size=1)
    cu_seqlens = torch.tensor([0, *torch.tensor(lengths).cumsum(0).tolist()])
    packed = model(tokens, cu_seqlens=cu_seqlens)
    alone = torch.cat([model(document) for document in tokens.split(lengths, dim=1)], dim=1)
    _assert_close(packed, alone)
    # without boundaries the later documents do see the earlier ones
    starts = cu_seqlens[1:-1]
    assert (model(tokens) - alone)[:, starts].abs().amax(dim=-1).min() > 0.5


@every_model
@torch.no_grad()
def test_a_later_token_does_not_change_earlier_logits(make_model, name):
    model, tokens = make_model(name), _tokens()
    changed = tokens.clone()
    changed[:, 40] = (changed[:, 40] + 1) % 29
    difference = (model(tokens) - model(changed)).abs().amax(dim=(0, 2))
    assert difference[:40].max() < 1e-5
    assert difference[40:].min() > 1e-4


@every_model
def test_forward_on_meta(make_model, name):
    with torch.device("meta"):
        model, tokens = make_model(name), torch.zeros(2, LENGTH, dtype=torch.long)
    logits = model(tokens)
    assert logits.is_meta
    assert logits.shape == (2, LENGTH, 29)


@every_model
@torch.no_grad()
def test_bfloat16_autocast_keeps_the_gates_wide(make_model, name):
    model, tokens = make_model(name), _tokens()
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(tokens)
        calls = model.operator_calls(tokens)
    assert logits.dtype == torch.bfloat16
    assert torch.isfinite(logits).all()
    for call in calls.values():
        gates = [call[gate] for gate in ("g", "beta", "gamma") if call[gate] is not None]
        assert all(gate.dtype == torch.float32 for gate in gates)


@every_model
def test_wrong_sequences_are_refused(make_model, name):
    model, tokens = make_model(name), _tokens()
    with pytest.raises(ValueError, match=r"tokens must be \[B, T\], got shape \(70,\)"):
        model(tokens[0])
    with pytest.raises(ValueError, match="one row of tokens, got 2 rows"):
        model(tokens, cu_seqlens=torch.tensor([0, LENGTH]))
    with pytest.raises(ValueError, match="must run from 0 to the number of tokens, 70; got 0 to 69"):
        model(tokens[:1], cu_seqlens=torch.tensor([0, 69]))
    with pytest.raises(ValueError, match=r"cu_seqlens must be an int32 or int64 vector .* got torch.float32"):
        model(tokens[:1], cu_seqlens=torch.tensor([0.0, 70.0]))
    with pytest.raises(ValueError, match="the cache holds 2 sequences, cu_seqlens 1"):
        model(tokens[:1], cu_seqlens=torch.tensor([0, LENGTH]), cache=model.new_cache(2))
    with pytest.raises(ValueError, match="the cache holds 3 sequences, tokens 2"):
        model(tokens, cache=model.new_cache(3))
