"""Tiles of q and k, normalized where the call is, and their gradients."""

import triton
import triton.language as tl

from rla_exp.kernels.triton.chunks import load_inside, rows_inside, tile_places


@triton.jit
def load_keys(x, norms, start, end, h, H, K: tl.constexpr, C: tl.constexpr, BK: tl.constexpr, ROUNDED: tl.constexpr):
    """A tile of q or k; ROUNDED: normalized."""
    tile = load_inside(x, start, end, h, H, K, 0, C, BK)
    if ROUNDED:
        norm = tl.load(norms + rows_inside(start, end, C))
        tile = (tile.to(tl.float32) * norm[:, None]).to(tile.dtype)
    return tile


@triton.jit
def store_gradient(
    dx,
    d_x,
    x,
    norms,
    start,
    end,
    h,
    H,
    K: tl.constexpr,
    C: tl.constexpr,
    BK: tl.constexpr,
    ROUNDED: tl.constexpr,
    ADD: tl.constexpr,
    PROJECT: tl.constexpr,
):
    """Of q or k, added to what is there, and without what normalizing takes out: what is along x."""
    places, mask = tile_places(start, end, H, K, 0, C, BK)
    first = (start * H + h) * K
    if ROUNDED or PROJECT:
        norm = tl.load(norms + tl.arange(0, C))
    if ROUNDED:
        d_x *= norm[:, None]
    if ADD:
        d_x += tl.load((dx + first) + places, mask=mask, other=0.0).to(tl.float32)
    if PROJECT:
        tile = tl.load((x + first) + places, mask=mask, other=0.0).to(tl.float32)
        along = norm * norm * tl.sum(tile * d_x, 1)
        d_x -= along[:, None] * tile
    tl.store((dx + first) + places, d_x.to(dx.dtype.element_ty), mask=mask)
