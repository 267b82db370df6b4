"""The forward pass of one state: a program carries a block of its columns over the chunks of a sequence or segment.

S and R each have a launch of their own: together they spill registers, and half as many columns fit into a program.
"""

import triton
import triton.language as tl

from rla_exp.kernels.triton.chunks import (
    chain_span,
    load_block,
    load_scales,
    load_tile,
    store_block,
    store_tile,
)
from rla_exp.kernels.triton.combine import block_of_identity, store_effect


# one binary for all lengths: what the self-check compiled is what runs
@triton.jit(do_not_specialize=["T", "LS", "P", "LP", "H"])
def forward_kernel(
    q,
    k,
    values,
    rows,
    inverses,
    matrices,
    initial,
    o,
    final,
    maps,
    r,
    checkpoints,
    cu_seqlens,
    cu_chunks,
    T,
    LS,
    P,
    LP,
    H,
    clip,
    clip_inside,
    clip_outside,
    K: tl.constexpr,
    V: tl.constexpr,
    C: tl.constexpr,
    BK: tl.constexpr,
    BV: tl.constexpr,
    ROWS: tl.constexpr,
    DELTA: tl.constexpr,
    RESIDUAL: tl.constexpr,
    FIT: tl.constexpr,
    CLIPPED: tl.constexpr,
    SUM: tl.constexpr,
    VARLEN: tl.constexpr,
    HAS_INITIAL: tl.constexpr,
    KEEP: tl.constexpr,
    EFFECT: tl.constexpr,
    SECOND: tl.constexpr,
    AT_READ: tl.constexpr,
    AT_PREDICT: tl.constexpr,
    NUM_MATRICES: tl.constexpr,
    BATCH: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """S, written at k with v and beta: o, and r where R is fed it. R (SECOND), with r or v and gamma: adds to o.

    A chain is a sequence, or one of its P segments, with a state of its own: initial and final are [chains, H, K, V].
    EFFECT: nothing but what a segment does to the state, into final and maps (combine.py).
    """
    v0 = tl.program_id(0) * BV
    chain = tl.program_id(1) // H
    h = tl.program_id(1) % H
    if EFFECT:
        if chain % P == P - 1:
            return  # nothing comes after the last segment
    n, start, end, first, chunks = chain_span(chain, cu_seqlens, cu_chunks, T, 0, LS, P, LP, C, VARLEN)
    dtype = q.dtype.element_ty
    INVERSES: tl.constexpr = 2 if RESIDUAL else 1
    PREDICTS: tl.constexpr = FIT and not SECOND and not EFFECT
    state_at = tl.program_id(1).to(tl.int64)
    S = tl.zeros((BK, BV), tl.float32)
    values_end = end
    whole = 1.0
    if EFFECT and DELTA:
        S = block_of_identity(v0, V, BK, BV)
        values_end = tl.where(v0 < tl.cdiv(V, BV) * BV, end, start)  # the map is linear: no values
    if HAS_INITIAL:
        S = load_block(initial, state_at, K, V, v0, BK, BV)
    scales = load_scales(rows, first * H + h, SECOND, C, ROWS)
    # checkpoints come between two batches: inside they would take the loop's registers
    for batch in range(0, tl.cdiv(chunks, BATCH)):
        until = tl.minimum((batch + 1) * BATCH, chunks)
        if KEEP:
            store_block(checkpoints, S, (first // BATCH + n + batch) * H + h, K, V, v0, BK, BV)
        for j in range(batch * BATCH, until):
            at = (first + j) * H + h
            token = start + j * C
            strength, hold, predict, get, read, decay = scales
            # a chunk ahead: nothing hides the time that these take
            scales = load_scales(rows, (first + tl.minimum(j + 1, chunks - 1)) * H + h, SECOND, C, ROWS)
            if not EFFECT:
                q_tile = load_tile(q, token, end, h, H, K, 0, C, BK)
            k_tile = load_tile(k, token, end, h, H, K, 0, C, BK)
            value = load_tile(values, token, values_end, h, H, V, v0, C, BV).to(tl.float32)
            if SECOND and CLIPPED:
                value = tl.clamp(value, -clip_inside, clip_inside, propagate_nan=tl.PropagateNan.ALL)

            S_low = S.to(dtype)
            if DELTA or PREDICTS:
                at_k = tl.dot(k_tile, S_low, input_precision=PRECISION)
            if DELTA:
                written = (strength[:, None] * (value - hold[:, None] * at_k)).to(dtype)
                inverse = load_block(inverses, at * INVERSES + SECOND, C, C, 0, C, C)
                U = tl.dot(inverse, written, input_precision=PRECISION)
            else:
                U = strength[:, None] * value
                written = U.to(dtype)
            S = tl.dot(tl.trans(k_tile), (U * get[:, None]).to(dtype), S * decay, input_precision=PRECISION)

            if PREDICTS:
                mix = tl.trans(load_block(matrices, at * NUM_MATRICES + AT_PREDICT, C, C, 0, C, C))
                error = value - tl.dot(mix, written, at_k * predict[:, None], input_precision=PRECISION)
                if CLIPPED:
                    # rounding must not move an entry over the bound: where it was clipped is read from r later.
                    # a NaN is not outside: it must stay one
                    size = tl.minimum(tl.abs(error), clip_inside, propagate_nan=tl.PropagateNan.ALL)
                    size = tl.where(tl.abs(error) > clip, clip_outside, size)
                    error = tl.where(error < 0, -size, size)
                store_tile(r, error, token, end, h, H, V, v0, C, BV)

            if EFFECT:
                whole *= decay
            else:
                o_tile = tl.dot(q_tile, S_low, input_precision=PRECISION)
                o_tile *= read[:, None]
                mix = tl.trans(load_block(matrices, at * NUM_MATRICES + AT_READ, C, C, 0, C, C))
                o_tile = tl.dot(mix, written, o_tile, input_precision=PRECISION)
                if SECOND:
                    if not SUM:
                        o_tile *= strength[:, None]
                    o_tile += load_tile(o, token, end, h, H, V, v0, C, BV).to(tl.float32)
                store_tile(o, o_tile, token, end, h, H, V, v0, C, BV)
    if EFFECT:
        store_effect(final, maps, S, whole, state_at, K, V, v0, BK, BV, DELTA)
    else:
        store_block(final, S, state_at, K, V, v0, BK, BV)
