"""Asking the copy engine for the tiles of a chunk of the reverse pass: the j-th from the slice's end."""

# tuples are unpacked whole
# ruff: noqa: RUF059
import triton.experimental.gluon.language as gl
from triton.experimental import gluon
from triton.experimental.gluon.language.nvidia.hopper import mbarrier

from rla_exp.kernels.triton.hopper.layout import BV, C, K
from rla_exp.kernels.triton.hopper.loads import load_async
from rla_exp.kernels.triton.hopper.reverse_layout import DONE, KEYS_READY, LATE_READY


@gluon.jit
def ask_for_keys(j, tiles, sizes, shared, SLOTS: gl.constexpr):
    """q and k of a chunk."""
    q_tiles, k_tiles, do_tiles, r_tiles, inverse_tiles = tiles
    token, chunks, k_at, v0, v_at, H, at, inverse_at = sizes
    keys, late, scores, leaving, after, gates, barriers = shared
    slot = j % SLOTS
    ready = barriers.index(KEYS_READY + slot)
    mbarrier.expect(ready, 2 * C * K * 2)
    load_async(q_tiles, [token - j * C, k_at], ready, keys.index(slot))
    load_async(k_tiles, [token - j * C, k_at], ready, keys.index(SLOTS + slot))


@gluon.jit
def ask_for_late(
    j, tiles, sizes, shared, DELTA: gl.constexpr, RESIDUAL: gl.constexpr, CLIPPED: gl.constexpr, TURNS: gl.constexpr
):
    """The gradient of o, r, T_b and T_y of a chunk."""
    q_tiles, k_tiles, do_tiles, r_tiles, inverse_tiles = tiles
    token, chunks, k_at, v0, v_at, H, at, inverse_at = sizes
    keys, late, scores, leaving, after, gates, barriers = shared
    turn = j % TURNS
    SYSTEMS: gl.constexpr = 2 if RESIDUAL else 1
    SYSTEM_S: gl.constexpr = 2 if CLIPPED else 1
    SQUARES: gl.constexpr = SYSTEM_S + (SYSTEMS if DELTA else 0)
    ready = barriers.index(LATE_READY + turn)
    mbarrier.expect(ready, SQUARES * C * BV * 2)
    load_async(do_tiles, [token - j * C, v_at], ready, late.index(turn))
    if CLIPPED:
        load_async(r_tiles, [token - j * C, v_at], ready, late.index(TURNS + turn))
    if DELTA:
        for system in gl.static_range(SYSTEMS):
            row = (inverse_at - j * H) * (SYSTEMS * C) + system * C
            load_async(inverse_tiles, [row, 0], ready, late.index((SYSTEM_S + system) * TURNS + turn))


@gluon.jit
def ask_for_first(
    tiles,
    sizes,
    shared,
    DELTA: gl.constexpr,
    RESIDUAL: gl.constexpr,
    CLIPPED: gl.constexpr,
    SLOTS: gl.constexpr,
    TURNS: gl.constexpr,
):
    """What there is room for before any chunk is done."""
    chunks = sizes[1]
    for j in gl.static_range(SLOTS):
        if j < chunks:
            ask_for_keys(j, tiles, sizes, shared, SLOTS)
        if j < TURNS:
            if j < chunks:
                ask_for_late(j, tiles, sizes, shared, DELTA, RESIDUAL, CLIPPED, TURNS)


@gluon.jit
def ask_for_next(
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
    """When the j-th chunk is done: what there is room for now."""
    chunks = sizes[1]
    barriers = shared[6]
    mbarrier.wait(barriers.index(DONE + j % SLOTS), (j // SLOTS) & 1)
    if j + SLOTS < chunks:
        ask_for_keys(j + SLOTS, tiles, sizes, shared, SLOTS)
    if j + TURNS < chunks:
        ask_for_late(j + TURNS, tiles, sizes, shared, DELTA, RESIDUAL, CLIPPED, TURNS)
