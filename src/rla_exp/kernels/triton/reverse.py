"""The backward recursion of one state, last chunk to first: a program carries a block of its gradient's columns.

Over a slice of a sequence, or a segment of that.
"""

import triton
import triton.language as tl

from rla_exp.kernels.triton.chunks import (
    chain_span,
    load_block,
    load_scales,
    load_tile,
    place_in_all,
    store_block,
    store_tile,
)
from rla_exp.kernels.triton.combine import block_of_identity, store_effect

SMALLEST = tl.constexpr(2.0**-40)
"""Below this a row of float16 counts as nothing."""


# one binary for all lengths: what the self-check compiled is what runs
@triton.jit(do_not_specialize=["T", "J0", "LS", "P", "LP", "H"])
def reverse_kernel(
    q,
    k,
    do,
    rows,
    inverses,
    matrices,
    d_state,
    maps,
    after,
    solved,
    d_prediction,
    dv,
    cu_seqlens,
    cu_chunks,
    T,
    J0,
    LS,
    P,
    LP,
    H,
    K: tl.constexpr,
    V: tl.constexpr,
    C: tl.constexpr,
    BK: tl.constexpr,
    BV: tl.constexpr,
    ROWS: tl.constexpr,
    DELTA: tl.constexpr,
    RESIDUAL: tl.constexpr,
    FIT: tl.constexpr,
    SUM: tl.constexpr,
    VARLEN: tl.constexpr,
    EFFECT: tl.constexpr,
    SECOND: tl.constexpr,
    AT_READ: tl.constexpr,
    AT_PREDICT: tl.constexpr,
    NUM_MATRICES: tl.constexpr,
    BATCH: tl.constexpr,
    PRECISION: tl.constexpr,
    TMA: tl.constexpr,
):
    """dR first (SECOND), then dS and dv: what R was fed came from S. What goes back to it is in d_prediction
    [chunks, H, C, V], left by gradients.py.

    d_state [chains, H, K, V] holds the gradient of the state after the slice, or after its segment where slices are cut
    into P, and then that before it. For each chunk it leaves the gradient of the state after the chunk (after) and the
    solution of the transposed system (solved [chunks, H, C, V]), from which all other gradients follow chunk by chunk.
    EFFECT: nothing but what a segment does to the gradient, into d_state and maps (combine.py). TMA: what is loaded in
    the loop comes as descriptors.
    """
    v0 = tl.program_id(0) * BV
    chain = tl.program_id(1) // H
    h = tl.program_id(1) % H
    if EFFECT:
        if chain % P == 0:
            return  # nothing comes before the first segment
    _, start, end, first, chunks = chain_span(chain, cu_seqlens, cu_chunks, T, J0, LS, P, LP, C, VARLEN)
    # q may be a descriptor
    dtype = dv.dtype.element_ty
    INVERSES: tl.constexpr = 2 if RESIDUAL else 1
    FOLLOWS: tl.constexpr = RESIDUAL and not SECOND
    PREDICTED: tl.constexpr = FIT and not SECOND
    # by a division, which the loop is spared
    first_in_all = place_in_all(first, T, J0, LS, C, VARLEN)
    state_at = tl.program_id(1).to(tl.int64)
    values_end = end
    total_decay = 1.0
    if not EFFECT:
        dS = load_block(d_state, state_at, K, V, v0, BK, BV)
    elif DELTA:
        dS = block_of_identity(v0, V, BK, BV)
        is_map = v0 >= tl.cdiv(V, BV) * BV
        # the map is linear: nothing arrives from the outputs and from R
        values_end = tl.where(is_map, start, end)
    else:
        dS = tl.zeros((BK, BV), tl.float32)
    scales = load_scales(rows, (first + tl.maximum(chunks - 1, 0)) * H + h, SECOND, C, ROWS)
    # the outer loop has one turn: with it ptxas schedules the inner one a third faster
    for batch in range(0, tl.cdiv(chunks, BATCH)):
        for step in range(batch * BATCH, tl.minimum((batch + 1) * BATCH, chunks)):
            j = chunks - 1 - step
            at = (first + j) * H + h
            token = start + (J0 + j) * C
            strength, hold, predict, get, read, decay = scales
            # a chunk ahead: nothing hides the time that these take
            scales = load_scales(rows, (first + tl.maximum(j - 1, 0)) * H + h, SECOND, C, ROWS)
            if dtype == tl.float16:
                # strong decays make these rows smaller than its normal numbers: the largest is made 1 meanwhile
                # a negative scale is allowed
                largest = tl.max(tl.abs(read), 0)
                if DELTA:
                    largest = tl.maximum(largest, tl.max(hold, 0))
                if PREDICTED:
                    largest = tl.maximum(largest, tl.max(predict, 0))
                largest = tl.maximum(largest, SMALLEST)
                read, hold, predict = read / largest, hold / largest, predict / largest
                kept = decay / largest
            else:
                kept = decay
            q_tile = load_tile(q, token, end, h, H, K, 0, C, BK, TMA)
            k_tile = load_tile(k, token, end, h, H, K, 0, C, BK, TMA)
            do_tile = load_tile(do, token, values_end, h, H, V, v0, C, BV, TMA)
            d_read = do_tile.to(tl.float32)
            if SECOND and not SUM:
                d_read *= strength[:, None]
                do_tile = d_read.to(dtype)

            dS_low = dS.to(dtype)
            if not EFFECT:
                store_block(after, dS_low, at, K, V, v0, BK, BV)
            # first, for the registers that d_read takes
            d_read *= read[:, None]
            dS = tl.dot(tl.trans(q_tile), d_read.to(dtype), dS * kept, input_precision=PRECISION)
            lam = tl.dot(k_tile, dS_low, input_precision=PRECISION) * get[:, None]
            if DELTA:
                inverse_at = ((first_in_all + j) * H + h) * INVERSES + SECOND
                inverse = tl.trans(load_block(inverses, inverse_at, C, C, 0, C, C, TMA))
                lam = tl.dot(inverse, lam.to(dtype), input_precision=PRECISION)
            mix = load_block(matrices, at * NUM_MATRICES + AT_READ, C, C, 0, C, C, TMA)
            lam = tl.dot(mix, do_tile, lam, input_precision=PRECISION)
            if FOLLOWS:
                # a tile of one head's tokens: masked as do is, to arrive where that does
                back = load_tile(d_prediction, at * C, at * C + (values_end - token), 0, 1, V, v0, C, BV, TMA)
                if PREDICTED:
                    mix = load_block(matrices, at * NUM_MATRICES + AT_PREDICT, C, C, 0, C, C, TMA)
                    lam = tl.dot(mix, back, lam, input_precision=PRECISION)
                back = back.to(tl.float32)
            if EFFECT:
                total_decay *= decay
            d_value = strength[:, None] * lam
            if DELTA or PREDICTED:
                d_at_k = tl.zeros((C, BV), tl.float32)
                if DELTA:
                    d_at_k -= hold[:, None] * d_value
                if PREDICTED:
                    d_at_k += predict[:, None] * back
                dS = tl.dot(tl.trans(k_tile), d_at_k.to(dtype), dS, input_precision=PRECISION)
            if not EFFECT:
                # last: their addresses do not meet what the products need
                store_block(solved, lam, at, C, V, v0, C, BV)
                if not SECOND:
                    store_tile(dv, d_value - back if RESIDUAL else d_value, token, end, h, H, V, v0, C, BV, TMA)
            if dtype == tl.float16:
                dS *= largest
    if EFFECT:
        store_effect(d_state, maps, dS, total_decay, state_at, K, V, v0, BK, BV, DELTA)
    else:
        store_block(d_state, dS, state_at, K, V, v0, BK, BV)
