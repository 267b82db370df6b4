"""Where a chunk's tokens lie: shared by every kernel, for equal and for packed sequences."""

# Triton reads annotations: no `from __future__ import annotations` in files with kernels
import triton
import triton.language as tl


@triton.jit
def chunk_span(index, cu_seqlens, chunk_table, T, J0, LS, C: tl.constexpr, VARLEN: tl.constexpr):
    """Sequence, first token and end of sequence of the index-th chunk of a slice; sequence -1: no such chunk.

    Equal sequences: slice = chunks J0 .. J0 + LS of each; packed ones: all chunks, in the order of chunk_table [n, 2].
    """
    if VARLEN:
        n = tl.load(chunk_table + 2 * index).to(tl.int64)
        j = tl.load(chunk_table + 2 * index + 1)
        known = n >= 0
        start = tl.load(cu_seqlens + n, mask=known, other=0).to(tl.int64) + j * C
        end = tl.load(cu_seqlens + n + 1, mask=known, other=0).to(tl.int64)
    else:
        n = (index // LS).to(tl.int64)
        start = n * T + (J0 + index % LS) * C
        end = (n + 1) * T
    return n, start, end


@triton.jit
def place_in_all(index, T, J0, LS, C: tl.constexpr, VARLEN: tl.constexpr):
    """Of the index-th chunk of a slice, the index among the chunks of whole sequences."""
    if VARLEN:
        place = index
    else:
        place = index // LS * tl.cdiv(T, C) + J0 + index % LS
    return place


@triton.jit
def chain_span(chain, cu_seqlens, cu_chunks, T, J0, LS, P, LP, C: tl.constexpr, VARLEN: tl.constexpr):
    """Of a chain of chunks: its sequence, the first token and that sequence's end, the index of its first chunk in the
    slice, and its chunks.

    Equal sequences: a slice of each is cut into P segments of LP chunks, a chain each; packed ones are not cut. The
    first token is that of the segment, had the slice begun with the sequence.
    """
    if VARLEN:
        n = chain
        start = tl.load(cu_seqlens + n).to(tl.int64)
        end = tl.load(cu_seqlens + n + 1).to(tl.int64)
        first = tl.load(cu_chunks + n).to(tl.int64)
        chunks = (tl.load(cu_chunks + n + 1) - first).to(tl.int32)
    else:
        n = chain // P
        skipped = chain % P * LP
        start = n.to(tl.int64) * T + skipped * C
        end = (n + 1).to(tl.int64) * T
        first = n.to(tl.int64) * LS + skipped
        chunks = tl.minimum(LP, tl.minimum(LS, tl.cdiv(T, C) - J0) - skipped)
    return n, start, end, first, chunks


# offsets inside a tile are 32-bit and added to a base of 64 bits at last: tensors of addresses would fill the registers
@triton.jit
def tile_places(start, end, H, D: tl.constexpr, d0, C: tl.constexpr, BD: tl.constexpr):
    """Offsets and mask of a tile's elements from its first token's first column, [C, BD]."""
    i = tl.arange(0, C)
    d = d0 + tl.arange(0, BD)
    mask = (i < tl.minimum(end - start, C).to(tl.int32))[:, None]
    if D % BD != 0:
        mask &= (d < D)[None, :]
    return i[:, None] * (H * D) + d[None, :], mask


@triton.jit
def load_tile(x, start, end, h, H, D: tl.constexpr, d0, C: tl.constexpr, BD: tl.constexpr, TMA: tl.constexpr = False):
    """[C, BD] of x [tokens, H, D]: tokens from start, columns from d0; zeros beyond the sequence and beyond D.

    TMA: x is a descriptor of whole chunks, which end at no sequence's end.
    """
    if TMA:
        tile = x.load([start.to(tl.int32), h * D + d0])
    else:
        places, mask = tile_places(start, end, H, D, d0, C, BD)
        tile = tl.load((x + (start * H + h) * D) + places, mask=mask, other=0.0)
    return tile


@triton.jit
def rows_inside(start, end, C: tl.constexpr):
    """[C] 0, 1, .. and beyond the sequence its last row again."""
    return tl.minimum(tl.arange(0, C), (end - start - 1).to(tl.int32))


@triton.jit
def load_inside(x, start, end, h, H, D: tl.constexpr, d0, C: tl.constexpr, BD: tl.constexpr, TMA: tl.constexpr = False):
    """load_tile, but beyond the sequence its last row: for those who multiply these rows by zero. No masks of rows."""
    if TMA:
        tile = load_tile(x, start, end, h, H, D, d0, C, BD, TMA)
    else:
        d = d0 + tl.arange(0, BD)
        places = (x + (start * H + h) * D) + (rows_inside(start, end, C)[:, None] * (H * D) + d[None, :])
        if D % BD != 0:
            tile = tl.load(places, mask=(d < D)[None, :], other=0.0)
        else:
            tile = tl.load(places)
    return tile


@triton.jit
def store_tile(
    x, tile, start, end, h, H, D: tl.constexpr, d0, C: tl.constexpr, BD: tl.constexpr, WHOLE: tl.constexpr = False
):
    """The inverse of load_tile. WHOLE: neither the chunk ends beyond the sequence nor the tile beyond D."""
    places, mask = tile_places(start, end, H, D, d0, C, BD)
    if WHOLE:
        tl.store((x + (start * H + h) * D) + places, tile.to(x.dtype.element_ty))
    else:
        tl.store((x + (start * H + h) * D) + places, tile.to(x.dtype.element_ty), mask=mask)


@triton.jit
def load_gate(x, start, end, h, H, C: tl.constexpr):
    """[C] of x [tokens, H]: tokens from start; zeros beyond the sequence."""
    i = tl.arange(0, C)
    return tl.load((x + (start * H + h)) + i * H, mask=i < tl.minimum(end - start, C).to(tl.int32), other=0.0)


@triton.jit
def block_places(rows: tl.constexpr, D: tl.constexpr, d0, BR: tl.constexpr, BD: tl.constexpr):
    """Offsets and mask of a block [BR, BD] of a matrix [rows, D], columns from d0."""
    i = tl.arange(0, BR)
    d = d0 + tl.arange(0, BD)
    mask = tl.full((BR, BD), True, tl.int1)
    if rows % BR != 0:
        mask &= (i < rows)[:, None]
    if D % BD != 0:
        mask &= (d < D)[None, :]
    return i[:, None] * D + d[None, :], mask


@triton.jit
def load_block(
    x, at, rows: tl.constexpr, D: tl.constexpr, d0, BR: tl.constexpr, BD: tl.constexpr, TMA: tl.constexpr = False
):
    """[BR, BD] of the at-th of x [.., rows, D], all rows, columns from d0; zeros beyond. TMA: x is a descriptor."""
    if TMA:
        tile = x.load([(at * rows).to(tl.int32), d0])
    else:
        places, mask = block_places(rows, D, d0, BR, BD)
        tile = tl.load((x + at * (rows * D)) + places, mask=mask, other=0.0)
    return tile


@triton.jit
def store_block(x, tile, at, rows: tl.constexpr, D: tl.constexpr, d0, BR: tl.constexpr, BD: tl.constexpr):
    """The inverse of load_block."""
    places, mask = block_places(rows, D, d0, BR, BD)
    if rows % BR == 0 and D % BD == 0:
        tl.store((x + at * (rows * D)) + places, tile.to(x.dtype.element_ty))
    else:
        tl.store((x + at * (rows * D)) + places, tile.to(x.dtype.element_ty), mask=mask)


@triton.jit
def load_scales(rows, at, SECOND: tl.constexpr, C: tl.constexpr, ROWS: tl.constexpr):
    """Of the at-th chunk: beta or gamma, what scales what the state holds at k, its prediction, what it gets, what o
    reads [C] each, and the chunk's decay."""
    row = rows + at * (ROWS * C)
    i = tl.arange(0, C)
    strength = tl.load(row + (3 if SECOND else 2) * C + i)
    hold = tl.load(row + 6 * C + i)
    predict = tl.load(row + 7 * C + i)
    get = tl.load(row + 8 * C + i)
    read = tl.load(row + (10 if SECOND else 9) * C + i)
    return strength, hold, predict, get, read, tl.load(row + 11 * C)


@triton.jit
def summed_decays(g, start, end, h, H, C: tl.constexpr):
    """G [C]: the log decays of the tokens from start summed up; beyond the sequence as before."""
    return tl.cumsum(load_gate(g, start, end, h, H, C), 0)


@triton.jit
def inverse_norms(tile):
    """1 / |x| [C] of the rows of a tile."""
    x = tile.to(tl.float32)
    return 1.0 / tl.sqrt(tl.sum(x * x, 1) + 1e-6)


@triton.jit
def lost(x, low):
    """What rounding x to low took of it, rounded likewise."""
    if low.dtype == tl.bfloat16:
        rounded = (low.to(tl.uint16, bitcast=True).to(tl.uint32) << 16).to(tl.float32, bitcast=True)
    else:
        rounded = low.to(tl.float32)
    return (x - rounded).to(low.dtype)
