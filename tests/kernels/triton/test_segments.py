"""Which calls are cut into segments; that the kernels then compute the same is interpreted.py's."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from rla_exp.kernels.inputs import Inputs
from rla_exp.kernels.triton import plan
from rla_exp.kernels.triton.guard import CUT_SHAPE, WHOLE_CUT_SHAPE, Setting
from rla_exp.kernels.triton.plan import CHECKPOINT_EVERY, equal_chunking, packed_chunking
from rla_exp.kernels.triton.tiles import Gpu, Tiles, candidates, choose_tiles, may_cut, may_describe
from rla_exp.kernels.verify.cases import RDN


def tiles_of(
    num_tokens: int,
    num_heads: int,
    *,
    dtype: torch.dtype = torch.bfloat16,
    K: int = 128,
    num_processors: int = 132,
    delta: bool = True,
) -> Tiles:
    gpu = Gpu(num_processors, shared_memory=227 * 1024, must_pipeline=False, has_descriptors=True)
    return choose_tiles(
        dtype,
        K,
        128,
        delta=delta,
        predicted=True,
        num_heads=num_heads,
        num_tokens=num_tokens,
        describable=may_describe(dtype, K=K, V=128, num_tokens=num_tokens),
        gpu=gpu,
    )


@pytest.mark.parametrize(
    ("num_tokens", "num_heads", "segments", "backward"),
    [
        # as many as a GPU of 132 multiprocessors holds of two programs a head
        (131072, 1, 66, 66),
        (131072, 4, 16, 16),
        (131072, 8, 8, 8),
        # of 16 chunks at least
        (32768, 1, 32, 32),
        (4100, 1, 5, 5),
        # enough heads for the backward pass, which gains less
        (131072, 9, 7, 1),
        (32768, 16, 4, 1),
        # too short, or enough heads
        (4095, 1, 1, 1),
        (131072, 17, 1, 1),
        # packed
        (0, 1, 1, 1),
    ],
)
def test_long_sequences_of_few_heads_are_cut(num_tokens: int, num_heads: int, segments: int, backward: int) -> None:
    tiles = tiles_of(num_tokens, num_heads)
    assert (tiles.segments, tiles.reverse_segments) == (segments, backward)
    # narrow blocks are for few programs
    assert (tiles.forward.BV == 64) == (segments > 1)
    assert (tiles.reverse_R.BV == 64) == (backward > 1)
    assert {(other.segments, other.reverse_segments) for other in candidates(tiles)} == {(segments, backward)}


def test_the_additive_rule_is_cut_backward_as_it_is_forward() -> None:
    tiles = tiles_of(131072, 16, delta=False)
    assert (tiles.segments, tiles.reverse_segments) == (4, 4)


def test_heads_of_many_rows_and_float32() -> None:
    assert tiles_of(131072, 1, K=256).segments == 1
    assert tiles_of(131072, 1, dtype=torch.float32).segments == 16
    narrow = tiles_of(131072, 3, dtype=torch.float32)
    assert (narrow.segments, narrow.reverse_segments) == (5, 1)


def test_segments_end_at_checkpoints() -> None:
    chunking = equal_chunking(1, 2000 * 64, 64)
    assert chunking.segments(2000, 1) == (1, 2000)
    for length, most in product((1, 16, 17, 100, 2000), (2, 3, 66)):
        count, chunks = chunking.segments(length, most)
        assert count <= most
        assert chunks % CHECKPOINT_EVERY == 0
        assert (count - 1) * chunks < length <= count * chunks
    packed = packed_chunking(torch.tensor([0, 64, 6400]), 6400, 64)
    assert packed.segments(102, 66) == (1, 102)


def test_slices_are_cut_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not fit into the scratch memory goes in slices, and each of them in segments."""
    chunking = equal_chunking(1, 512 * 64, 64)
    monkeypatch.setattr(plan, "SCRATCH_BYTES", 300)
    assert [(length, chunking.segments(length, 8)) for _, length in chunking.slices(1)] == [
        (256, (8, 32)),
        (256, (8, 32)),
    ]


def test_whatever_is_cut_was_checked() -> None:
    """On any GPU a setting that may be cut has a case that is."""
    shapes_checked = (CUT_SHAPE, WHOLE_CUT_SHAPE)
    for ((length,), batch_size, num_heads), dtype, processors in product(
        shapes_checked, (torch.bfloat16, torch.float32), (8, 16, 40, 108, 132, 148, 160)
    ):
        shapes = product((4096, 5000, 131072), (1, 2, 5, 16, 20, 32, 40))
        chosen = {shape: tiles_of(*shape, dtype=dtype, num_processors=processors) for shape in shapes}
        is_cut = [shape for shape, tiles in chosen.items() if tiles.segments > 1]
        assert all(may_cut(128, num_heads=heads, num_tokens=tokens) for tokens, heads in is_cut)
        tiles = tiles_of(length, batch_size * num_heads, dtype=dtype, num_processors=processors)
        chunking = equal_chunking(batch_size, length, tiles.C)
        for name in ("segments", "reverse_segments"):
            count, _ = chunking.segments(chunking.chunks_per_sequence, getattr(tiles, name))
            assert (count > 1) == any(getattr(other, name) > 1 for other in chosen.values())


@pytest.mark.parametrize(("tokens", "heads", "expected"), [(8192, 4, True), (2048, 4, False), (8192, 64, False)])
def test_the_setting_of_a_call(tokens: int, heads: int, expected: bool) -> None:
    with FakeTensorMode():
        x = torch.empty(1, tokens, heads, 128, dtype=torch.bfloat16)
    inputs = Inputs(q=x, k=x, v=x, g=None, beta=None, gamma=None, initial_state=None)
    setting = Setting.of(inputs, RDN, step=False, gradients=True)
    assert setting.may_cut == expected
    # of 64 tokens each chunk is whole
    assert setting.may_describe
    assert (WHOLE_CUT_SHAPE[0] in [case.scenario.lengths for case in setting.cases()]) == expected
    ragged = Setting.of(replace(inputs, q=x[:, 1:], k=x[:, 1:], v=x[:, 1:]), RDN, step=False, gradients=True)
    assert not ragged.may_describe
    assert (CUT_SHAPE[0] in [case.scenario.lengths for case in ragged.cases()]) == expected
    packed = Inputs(q=x, k=x, v=x, g=None, beta=None, gamma=None, initial_state=None, offsets=(0, 1, tokens))
    assert not Setting.of(packed, RDN, step=False, gradients=True).may_cut
    token = Inputs(q=x[:, 0], k=x[:, 0], v=x[:, 0], g=None, beta=None, gamma=None, initial_state=None)
    assert not Setting.of(token, RDN, step=True, gradients=False).may_cut
