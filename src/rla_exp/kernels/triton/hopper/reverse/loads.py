"""Asking the copy engine for the tiles of a chunk of the reverse pass: the j-th from the slice's end."""

# tuples are unpacked whole
# ruff: noqa: RUF059
import triton.experimental.gluon.language as gl
from triton.experimental import gluon
from triton.experimental.gluon.language.nvidia.hopper import mbarrier

from rla_exp.kernels.triton.hopper.copies import load_async
from rla_exp.kernels.triton.hopper.layout import BV, C, K
from rla_exp.kernels.triton.hopper.reverse.layout import DONE, KEYS_READY, REST_FREE, REST_READY


@gluon.jit
def ask_for_keys(j, tiles, sizes, shared, SLOTS: gl.constexpr):
    """k of a chunk."""
    q_tiles, k_tiles, do_tiles, r_tiles, inverse_tiles = tiles
    token, chunks, k_at, v0, v_at, H, at, inverse_at = sizes
    keys, rest, scores, leaving, after, gates, barriers = shared
    slot = j % SLOTS
    ready = barriers.index(KEYS_READY + slot)
    mbarrier.expect(ready, C * K * 2)
    load_async(k_tiles, [token - j * C, k_at], ready, keys.index(slot))


@gluon.jit
def ask_for_rest(
    j,
    tiles,
    sizes,
    shared,
    DELTA: gl.constexpr,
    RESIDUAL: gl.constexpr,
    CLIPPED: gl.constexpr,
    SLOTS: gl.constexpr,
    TURNS: gl.constexpr,
):
    """q, the gradient of o, r, T_b and T_y of a chunk."""
    q_tiles, k_tiles, do_tiles, r_tiles, inverse_tiles = tiles
    token, chunks, k_at, v0, v_at, H, at, inverse_at = sizes
    keys, rest, scores, leaving, after, gates, barriers = shared
    turn = j % TURNS
    SYSTEMS: gl.constexpr = 2 if RESIDUAL else 1
    SYSTEM_S: gl.constexpr = 2 if CLIPPED else 1
    SQUARES: gl.constexpr = SYSTEM_S + (SYSTEMS if DELTA else 0)
    ready = barriers.index(REST_READY + turn)
    mbarrier.expect(ready, C * K * 2 + SQUARES * C * BV * 2)
    load_async(q_tiles, [token - j * C, k_at], ready, keys.index(SLOTS + turn))
    load_async(do_tiles, [token - j * C, v_at], ready, rest.index(turn))
    if CLIPPED:
        load_async(r_tiles, [token - j * C, v_at], ready, rest.index(TURNS + turn))
    if DELTA:
        for system in gl.static_range(SYSTEMS):
            row = (inverse_at - j * H) * (SYSTEMS * C) + system * C
            load_async(inverse_tiles, [row, 0], ready, rest.index((SYSTEM_S + system) * TURNS + turn))


@gluon.jit
def ask_for_tiles(
    tiles,
    sizes,
    shared,
    DELTA: gl.constexpr,
    RESIDUAL: gl.constexpr,
    CLIPPED: gl.constexpr,
    SLOTS: gl.constexpr,
    TURNS: gl.constexpr,
):
    """All of a program, one warp's work: what there is room for at first, then whenever a place is free again."""
    chunks = sizes[1]
    barriers = shared[6]
    for j in gl.static_range(max(SLOTS, TURNS)):
        if j < chunks:
            if j < SLOTS:
                ask_for_keys(j, tiles, sizes, shared, SLOTS)
            if j < TURNS:
                ask_for_rest(j, tiles, sizes, shared, DELTA, RESIDUAL, CLIPPED, SLOTS, TURNS)
    for j in range(chunks):
        mbarrier.wait(barriers.index(REST_FREE + j % TURNS), (j // TURNS) & 1)
        if j + TURNS < chunks:
            ask_for_rest(j + TURNS, tiles, sizes, shared, DELTA, RESIDUAL, CLIPPED, SLOTS, TURNS)
        mbarrier.wait(barriers.index(DONE + j % SLOTS), (j // SLOTS) & 1)
        if j + SLOTS < chunks:
            ask_for_keys(j + SLOTS, tiles, sizes, shared, SLOTS)
