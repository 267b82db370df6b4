"""Asking the copy engine for the tiles of a chunk, when there is room for them."""

# tuples are unpacked whole
# ruff: noqa: RUF059
import triton.experimental.gluon.language as gl
from triton.experimental import gluon
from triton.experimental.gluon.language.nvidia.hopper import mbarrier

from rla_exp.kernels.triton.hopper.copies import load_async
from rla_exp.kernels.triton.hopper.forward.layout import (
    DONE,
    KEYS_AT,
    KEYS_READY,
    LATE_READY,
    SLOTS,
    SYSTEMS_Y,
    VALUES_O_ALONE,
)
from rla_exp.kernels.triton.hopper.layout import BV, C, K


@gluon.jit
def ask_for_keys(j, tiles, sizes, shared, DELTA: gl.constexpr, RESIDUAL: gl.constexpr, FIRST: gl.constexpr):
    """q and k of the j-th chunk, and T_b where S is carried."""
    q_tiles, k_tiles, v_tiles, inverse_tiles, o_tiles = tiles
    start, chunks, v_at, H, k_at, at = sizes
    keys, systems, mixes, values, gates, barriers = shared
    slot = j % SLOTS
    ready = barriers.index(KEYS_READY + slot)
    mbarrier.expect(ready, 2 * C * K * 2 + (C * C * 2 if DELTA and FIRST else 0))
    load_async(q_tiles, [start + j * C, k_at], ready, keys.index(slot))
    load_async(k_tiles, [start + j * C, k_at], ready, keys.index(KEYS_AT + slot))
    if DELTA and FIRST:
        load_async(inverse_tiles, [(at + j * H) * ((2 if RESIDUAL else 1) * C), 0], ready, systems.index(slot))


@gluon.jit
def ask_for_values(j, tiles, sizes, shared, DELTA: gl.constexpr, FIRST: gl.constexpr, SECOND: gl.constexpr):
    """v of the j-th chunk; T_y where R is carried; r in v's place and o of S where R is carried alone."""
    q_tiles, k_tiles, v_tiles, inverse_tiles, o_tiles = tiles
    start, chunks, v_at, H, k_at, at = sizes
    keys, systems, mixes, values, gates, barriers = shared
    pair = j % 2
    ready = barriers.index(LATE_READY + pair)
    tile_bytes: gl.constexpr = C * BV * 2
    mbarrier.expect(ready, (tile_bytes if FIRST else 2 * tile_bytes) + (C * C * 2 if DELTA and SECOND else 0))
    load_async(v_tiles, [start + j * C, v_at], ready, values.index(pair))
    if DELTA and SECOND:
        load_async(inverse_tiles, [(at + j * H) * (2 * C) + C, 0], ready, systems.index(SYSTEMS_Y + pair))
    if not FIRST:
        load_async(o_tiles, [start + j * C, v_at], ready, values.index(VALUES_O_ALONE + pair))


@gluon.jit
def ask_for_first(
    tiles, sizes, shared, DELTA: gl.constexpr, RESIDUAL: gl.constexpr, FIRST: gl.constexpr, SECOND: gl.constexpr
):
    """What there is room for before any chunk is done."""
    chunks = sizes[1]
    for j in gl.static_range(SLOTS):
        if j < chunks:
            ask_for_keys(j, tiles, sizes, shared, DELTA, RESIDUAL, FIRST)
    for j in gl.static_range(2):
        if j < chunks:
            ask_for_values(j, tiles, sizes, shared, DELTA, FIRST, SECOND)


@gluon.jit
def ask_for_next(
    j, tiles, sizes, shared, DELTA: gl.constexpr, RESIDUAL: gl.constexpr, FIRST: gl.constexpr, SECOND: gl.constexpr
):
    """When the j-th chunk is done: what there is room for now."""
    chunks = sizes[1]
    barriers = shared[5]
    mbarrier.wait(barriers.index(DONE + j % SLOTS), (j // SLOTS) & 1)
    if j + SLOTS < chunks:
        ask_for_keys(j + SLOTS, tiles, sizes, shared, DELTA, RESIDUAL, FIRST)
    if j + 2 < chunks:
        ask_for_values(j + 2, tiles, sizes, shared, DELTA, FIRST, SECOND)
