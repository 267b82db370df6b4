"""Rows of caches: copied, repeated, put together."""

from __future__ import annotations

from typing import get_args

import pytest
import torch

from rla_exp.config.schema import ModelName
from rla_exp.models import Cache

NAMES = get_args(ModelName)
# models to which positions mean nothing
UNPLACED = [name for name in NAMES if name not in ("transformer", "retnet")]


@pytest.mark.parametrize("name", NAMES)
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


@pytest.mark.parametrize("name", UNPLACED)
@torch.no_grad()
def test_rows_of_different_lengths_are_joined_where_positions_mean_nothing(make_model, name):
    model = make_model(name)
    tokens = torch.randint(29, (3, 9), generator=torch.Generator().manual_seed(1))
    short, long = model.new_cache(1), model.new_cache(2)
    model(tokens[:1, :4], cache=short)
    model(tokens[1:, :7], cache=long)
    joined = Cache.joined([short, long])
    assert joined.batch_size == 3
    next_tokens = torch.tensor([[5], [6], [7]])
    expected = torch.cat([model(next_tokens[:1], cache=short), model(next_tokens[1:], cache=long)])
    torch.testing.assert_close(model(next_tokens, cache=joined), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", UNPLACED)
@torch.no_grad()
def test_packed_documents_go_on_from_their_rows(make_model, name):
    model = make_model(name)
    tokens = torch.randint(29, (4, 60), generator=torch.Generator().manual_seed(2))
    # shorter than the convolution's window, empty, and over several chunks
    lengths = [(5, 1), (5, 40), (5, 0), (5, 2)]
    cache = model.new_cache(4)
    model(tokens[:, :5], cache=cache)
    parts = [row[first : first + more] for row, (first, more) in zip(tokens, lengths, strict=True)]
    offsets = torch.tensor([0, *torch.tensor([more for _, more in lengths]).cumsum(0).tolist()])
    packed = model(torch.cat(parts)[None], cu_seqlens=offsets, cache=cache)[0]
    assert cache.length == 45
    # a further token sees states and windows as packing left them
    after = model(tokens[:, -1:], cache=cache)
    for row, (first, more) in enumerate(lengths):
        whole = model(torch.cat([tokens[row, : first + more], tokens[row, -1:]])[None])[0]
        torch.testing.assert_close(packed[offsets[row] : offsets[row + 1]], whole[first:-1], rtol=0, atol=1e-5)
        torch.testing.assert_close(after[row], whole[-1:], rtol=0, atol=1e-5)


def test_keys_and_values_are_not_joined(make_model):
    model = make_model("transformer")
    with pytest.raises(ValueError, match="different lengths"):
        Cache.joined([model.new_cache(1), model.new_cache(2)])
