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
def sequence_span(n, cu_seqlens, cu_chunks, T, J0, LS, C: tl.constexpr, VARLEN: tl.constexpr):
    """First token and end of a sequence, the index of its first chunk in the slice, and its chunks in the slice."""
    if VARLEN:
        start = tl.load(cu_seqlens + n).to(tl.int64)
        end = tl.load(cu_seqlens + n + 1).to(tl.int64)
        first = tl.load(cu_chunks + n).to(tl.int64)
        chunks = tl.load(cu_chunks + n + 1).to(tl.int64) - first
    else:
        start = n.to(tl.int64) * T
        end = start + T
        first = n.to(tl.int64) * LS
        chunks = tl.minimum(LS, tl.cdiv(T, C) - J0).to(tl.int64)
    return start, end, first, chunks


@triton.jit
def load_tile(x, start, end, h, H, D: tl.constexpr, d0, C: tl.constexpr, BD: tl.constexpr):
    """[C, BD] of x [tokens, H, D]: tokens from start, columns from d0; zeros beyond the sequence and beyond D."""
    t = start + tl.arange(0, C)
    d = d0 + tl.arange(0, BD)
    return tl.load(x + (t * H + h)[:, None] * D + d[None, :], mask=(t < end)[:, None] & (d < D)[None, :], other=0.0)


@triton.jit
def store_tile(x, tile, start, end, h, H, D: tl.constexpr, d0, C: tl.constexpr, BD: tl.constexpr):
    """The inverse of load_tile."""
    t = start + tl.arange(0, C)
    d = d0 + tl.arange(0, BD)
    mask = (t < end)[:, None] & (d < D)[None, :]
    tl.store(x + (t * H + h)[:, None] * D + d[None, :], tile.to(x.dtype.element_ty), mask=mask)


@triton.jit
def load_state(x, at, K: tl.constexpr, V: tl.constexpr, k0, v0, BK: tl.constexpr, BV: tl.constexpr):
    """[BK, BV] of the at-th of x [.., K, V], rows from k0, columns from v0; zeros beyond K and V."""
    i = k0 + tl.arange(0, BK)
    d = v0 + tl.arange(0, BV)
    return tl.load(x + at * (K * V) + i[:, None] * V + d[None, :], mask=(i < K)[:, None] & (d < V)[None, :], other=0.0)


@triton.jit
def store_state(x, tile, at, K: tl.constexpr, V: tl.constexpr, v0, BK: tl.constexpr, BV: tl.constexpr):
    """All rows of the at-th of x [.., K, V], columns from v0."""
    i = tl.arange(0, BK)
    d = v0 + tl.arange(0, BV)
    mask = (i < K)[:, None] & (d < V)[None, :]
    tl.store(x + at * (K * V) + i[:, None] * V + d[None, :], tile.to(x.dtype.element_ty), mask=mask)


@triton.jit
def load_matrix(x, at, C: tl.constexpr):
    """The at-th of x [.., C, C]."""
    i = tl.arange(0, C)
    return tl.load(x + at * (C * C) + i[:, None] * C + i[None, :])


@triton.jit
def store_matrix(x, tile, at, C: tl.constexpr):
    """The inverse of load_matrix."""
    i = tl.arange(0, C)
    tl.store(x + at * (C * C) + i[:, None] * C + i[None, :], tile.to(x.dtype.element_ty))


@triton.jit
def load_block(x, at, C: tl.constexpr, V: tl.constexpr, v0, BV: tl.constexpr):
    """[C, BV] of the at-th of x [.., C, V], columns from v0."""
    d = v0 + tl.arange(0, BV)
    return tl.load(x + at * (C * V) + tl.arange(0, C)[:, None] * V + d[None, :], mask=(d < V)[None, :], other=0.0)


@triton.jit
def store_block(x, tile, at, C: tl.constexpr, V: tl.constexpr, v0, BV: tl.constexpr):
    """The inverse of load_block."""
    d = v0 + tl.arange(0, BV)
    place = at * (C * V) + tl.arange(0, C)[:, None] * V + d[None, :]
    tl.store(x + place, tile.to(x.dtype.element_ty), mask=(d < V)[None, :])
