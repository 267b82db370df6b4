"""Rows of caches: copied, repeated, put together."""

from __future__ import annotations

from typing import get_args

import pytest
import torch

from rla_exp.config.schema import ModelName
from rla_exp.models import Cache

every_model = pytest.mark.parametrize("name", get_args(ModelName))


@every_model
@torch.no_grad()
def test_selected_rows_go_on_as_they_would_have(make_model, name):
    model = make_model(name)
    tokens = torch.randint(29, (3, 9), generator=torch.Generator().manual_seed(0))
    cache = model.new_cache(3)
    model(tokens[:, :6], cache=cache)
    rows = torch.tensor([2, 0, 2, 1])
    selected = cache.select(rows)
    # the copy is on its own: moving the original on does not touch it
    expected = model(tokens[:, 6:], cache=cache)[rows]
    torch.testing.assert_close(model(tokens[rows, 6:], cache=selected), expected, rtol=0, atol=1e-5)
    assert selected.batch_size == 4
    assert selected.length == cache.length == 9


@every_model
@torch.no_grad()
def test_rows_of_different_lengths_are_joined(make_model, name):
    model = make_model(name).double()
    tokens = torch.randint(29, (3, 12), generator=torch.Generator().manual_seed(1))
    short, long = model.new_cache(1), model.new_cache(2)
    model(tokens[:1, :4], cache=short)
    model(tokens[1:, :7], cache=long)
    joined = Cache.joined([short, long]).select(torch.tensor([1, 0, 2]))
    assert (joined.batch_size, joined.length, joined.lengths.tolist()) == (3, 7, [7, 4, 7])
    # by a step, by several tokens at once, and by a step
    for first, last in ((7, 8), (8, 11), (11, 12)):
        found = model(tokens[[1, 0, 2], first:last], cache=joined)
        for place, (row, skipped) in enumerate(((1, 0), (0, 3), (2, 0))):
            kept = torch.cat([tokens[row, : 7 - skipped], tokens[row, 7:last]])
            torch.testing.assert_close(found[place], model(kept[None])[0, first - last :], rtol=0, atol=1e-10)
    assert joined.lengths.tolist() == [12, 9, 12]


@every_model
@torch.no_grad()
def test_packed_documents_go_on_from_their_rows(make_model, name):
    model = make_model(name).double()
    tokens = torch.randint(29, (4, 60), generator=torch.Generator().manual_seed(2))
    # shorter than the convolution's window, empty, and over several chunks; then the other way round
    cache = model.new_cache(4)
    model(tokens[:, :5], cache=cache)
    seen = [5, 5, 5, 5]
    for more in ([1, 40, 0, 2], [30, 3, 20, 0]):
        parts = [row[start : start + count] for row, start, count in zip(tokens, seen, more, strict=True)]
        offsets = torch.tensor([0, *torch.tensor(more).cumsum(0).tolist()])
        packed = model(torch.cat(parts)[None], cu_seqlens=offsets, cache=cache)[0]
        seen = [start + count for start, count in zip(seen, more, strict=True)]
        assert (cache.length, cache.lengths.tolist()) == (max(seen), seen)
        # a further token sees states and windows as packing left them
        after = model(tokens[:, -1:], cache=cache.select(torch.arange(4)))
        for row, (length, count) in enumerate(zip(seen, more, strict=True)):
            whole = model(torch.cat([tokens[row, :length], tokens[row, -1:]])[None])[0]
            last = packed[offsets[row] : offsets[row + 1]]
            torch.testing.assert_close(last, whole[length - count : length], rtol=0, atol=1e-10)
            torch.testing.assert_close(after[row], whole[-1:], rtol=0, atol=1e-10)


@every_model
def test_gradients_of_packed_documents_are_those_of_each_alone(make_model, name):
    """What exported models train on, where batches have padding."""
    model = make_model(name).double()
    tokens = torch.randint(29, (1, 9), generator=torch.Generator().manual_seed(3))
    model(tokens, cu_seqlens=torch.tensor([0, 2, 9]), cache=model.new_cache(2)).logsumexp(-1).sum().backward()
    found = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad()
    for part in (tokens[:, :2], tokens[:, 2:]):
        model(part).logsumexp(-1).sum().backward()
    for gradient, parameter in zip(found, model.parameters(), strict=True):
        torch.testing.assert_close(gradient, parameter.grad, rtol=0, atol=1e-9)
