"""The states before every chunk, recomputed for the backward pass from the checkpoints: all segments in parallel."""

import triton
import triton.language as tl

from rla_exp.kernels.triton.chunks import (
    chunk_span,
    load_block,
    load_tile,
    place_in_all,
    store_block,
)


# one binary for all lengths: what the self-check compiled is what runs
@triton.jit(do_not_specialize=["T", "J0", "LS", "H"])
def replay_kernel(
    k,
    values,
    rows,
    inverses,
    checkpoints,
    states,
    reads,
    cu_seqlens,
    chunk_table,
    T,
    J0,
    LS,
    H,
    bound,
    ROWS: tl.constexpr,
    SECOND: tl.constexpr,
    RESIDUAL: tl.constexpr,
    CLIPPED: tl.constexpr,
    K: tl.constexpr,
    V: tl.constexpr,
    C: tl.constexpr,
    BK: tl.constexpr,
    BV: tl.constexpr,
    EVERY: tl.constexpr,
    DELTA: tl.constexpr,
    READ: tl.constexpr,
    VARLEN: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """One memory, written at k with `values`: S with v and beta, or R with r and gamma (SECOND).

    READ: also what it holds at k.

    A program takes the chunks between two checkpoints; the program of any other chunk has nothing to do.
    """
    INVERSES: tl.constexpr = 2 if RESIDUAL else 1
    v0 = tl.program_id(0) * BV
    index = tl.program_id(1).to(tl.int64)
    h = tl.program_id(2)
    n, start, end = chunk_span(index, cu_seqlens, chunk_table, T, J0, LS, C, VARLEN)
    if n < 0:
        return
    if VARLEN:
        j = tl.load(chunk_table + 2 * index + 1)
        first = index - j
    else:
        j = J0 + (index % LS).to(tl.int32)
        first = n * tl.cdiv(T, C)
    if j % EVERY != 0:
        return
    dtype = k.dtype.element_ty
    i = tl.arange(0, C)
    S = load_block(checkpoints, (first // EVERY + n + j // EVERY) * H + h, K, V, v0, BK, BV)
    chunks = tl.minimum(EVERY, tl.cdiv(end - start, C))
    if not VARLEN:
        chunks = tl.minimum(chunks, J0 + LS - j)

    for step in range(0, chunks):
        at = (index + step) * H + h
        token = start + step * C
        S_low = S.to(dtype)
        store_block(states, S_low, at, K, V, v0, BK, BV)

        gates = rows + at * (ROWS * C)
        G = tl.load(gates + i)
        G_last = tl.load(gates + C - 1)
        strength = tl.load(gates + (3 if SECOND else 2) * C + i)
        k_norm = tl.load(gates + 4 * C + i)
        k_tile = load_tile(k, token, end, h, H, K, 0, C, BK)
        value = load_tile(values, token, end, h, H, V, v0, C, BV).to(tl.float32)
        if CLIPPED and SECOND:
            value = tl.clamp(value, -bound, bound, propagate_nan=tl.PropagateNan.ALL)
        if READ:
            at_k = tl.dot(k_tile, S_low, input_precision=PRECISION) * k_norm[:, None]
            store_block(reads, at_k, at, C, V, v0, C, BV)
        if DELTA:
            inverse_at = (place_in_all(index + step, T, J0, LS, C, VARLEN) * H + h) * INVERSES + SECOND
            written = (strength[:, None] * (value - tl.exp(G)[:, None] * at_k)).to(dtype)
            U = tl.dot(load_block(inverses, inverse_at, C, C, 0, C, C), written, input_precision=PRECISION)
        else:
            U = strength[:, None] * value
        to_end = tl.exp(G_last - G) * k_norm
        S = tl.dot(tl.trans(k_tile), (U * to_end[:, None]).to(dtype), S * tl.exp(G_last), input_precision=PRECISION)
