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
    lost,
    store_block,
    store_tile,
)
from rla_exp.kernels.triton.combine import block_of_identity, store_effect


@triton.jit
def store_error(
    r,
    matrices,
    left,
    at,
    at_k,
    written,
    predict,
    value,
    start,
    end,
    h,
    H,
    v0,
    clip,
    clip_inside,
    clip_outside,
    CLIPPED: tl.constexpr,
    NUM_MATRICES: tl.constexpr,
    AT_PREDICT: tl.constexpr,
    LEFT: tl.constexpr,
    V: tl.constexpr,
    C: tl.constexpr,
    BV: tl.constexpr,
    PRECISION: tl.constexpr,
    TMA: tl.constexpr,
    WHOLE: tl.constexpr,
):
    """v - P of a chunk as what R is fed, into r. P is from what S holds at k and is written with; LEFT: also with what
    rounding took of PREDICT."""
    mix = tl.trans(load_block(matrices, at * NUM_MATRICES + AT_PREDICT, C, C, 0, C, C, TMA))
    P = tl.dot(mix, written, at_k * predict[:, None], input_precision=PRECISION)
    if LEFT:
        mix = tl.trans(load_block(left, at, C, C, 0, C, C, TMA))
        P = tl.dot(mix, written, P, input_precision=PRECISION)
    error = value - P
    if CLIPPED:
        # rounding must not move an entry over the bound: where it was clipped is read from r later.
        # a NaN is not outside: it must stay one
        size = tl.minimum(tl.abs(error), clip_inside, propagate_nan=tl.PropagateNan.ALL)
        size = tl.where(tl.abs(error) > clip, clip_outside, size)
        error = tl.where(error < 0, -size, size)
    store_tile(r, error, start, end, h, H, V, v0, C, BV, WHOLE)


# one binary for all lengths: what the self-check compiled is what runs
@triton.jit(do_not_specialize=["T", "LS", "P", "LP", "H"])
def forward_kernel(
    q,
    k,
    values,
    rows,
    inverses,
    matrices,
    left,
    initial,
    o_of_S,
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
    LEFT: tl.constexpr,
    EXACT_WRITES: tl.constexpr,
    SECOND: tl.constexpr,
    AT_READ: tl.constexpr,
    AT_PREDICT: tl.constexpr,
    NUM_MATRICES: tl.constexpr,
    BATCH: tl.constexpr,
    PRECISION: tl.constexpr,
    TMA: tl.constexpr,
    STAGES: tl.constexpr,
):
    """S, written at k with v and beta: o, and r where R is fed it. R (SECOND), with r or v and gamma: adds to o.

    A chain is a sequence, or one of its P segments, with a state of its own: initial and final are [chains, H, K, V].
    EFFECT: nothing but what a segment does to the state, into final and maps (combine.py). TMA: what is loaded in the
    loop comes as descriptors, o_of_S too, which is o.
    """
    v0 = tl.program_id(0) * BV
    chain = tl.program_id(1) // H
    h = tl.program_id(1) % H
    if EFFECT:
        if chain % P == P - 1:
            return  # nothing comes after the last segment
    n, start, end, first, chunks = chain_span(chain, cu_seqlens, cu_chunks, T, 0, LS, P, LP, C, VARLEN)
    dtype = o.dtype.element_ty
    INVERSES: tl.constexpr = 2 if RESIDUAL else 1
    PREDICTS: tl.constexpr = FIT and not SECOND and not EFFECT
    # after strong decays the first token alone decides the gradient of the initial state: one entry that a rounded
    # state moves over the clip's bound would show whole there
    EXACT_FIRST: tl.constexpr = PREDICTS and HAS_INITIAL and dtype != tl.float32
    state_at = tl.program_id(1).to(tl.int64)
    S = tl.zeros((BK, BV), tl.float32)
    values_end = end
    total_decay = 1.0
    if EFFECT and DELTA:
        S = block_of_identity(v0, V, BK, BV)
        values_end = tl.where(v0 < tl.cdiv(V, BV) * BV, end, start)  # the map is linear: no values
    if HAS_INITIAL:
        S = load_block(initial, state_at, K, V, v0, BK, BV)
    scales = load_scales(rows, first * H + h, SECOND, C, ROWS)
    if EXACT_FIRST:
        strength, hold, predict, _, _, _ = scales
        at = first * H + h
        k_tile = load_tile(k, start, end, h, H, K, 0, C, BK, TMA)
        value = load_tile(values, start, end, h, H, V, v0, C, BV, TMA).to(tl.float32)
        S_low = S.to(dtype)
        at_k = tl.dot(k_tile, S_low, input_precision=PRECISION)
        at_k = tl.dot(k_tile, lost(S, S_low), at_k, input_precision=PRECISION)
        written = value
        if DELTA:
            written -= hold[:, None] * at_k
        written = (strength[:, None] * written).to(dtype)
        store_error(
            r,
            matrices,
            left,
            at,
            at_k,
            written,
            predict,
            value,
            start,
            end,
            h,
            H,
            v0,
            clip,
            clip_inside,
            clip_outside,
            CLIPPED,
            NUM_MATRICES,
            AT_PREDICT,
            LEFT,
            V,
            C,
            BV,
            PRECISION,
            TMA,
            TMA,
        )
    # checkpoints come between two batches: inside they would take the loop's registers
    for batch in range(0, tl.cdiv(chunks, BATCH)):
        until = tl.minimum((batch + 1) * BATCH, chunks)
        if KEEP:
            store_block(checkpoints, S, (first // BATCH + n + batch) * H + h, K, V, v0, BK, BV)
        for j in tl.range(batch * BATCH, until, num_stages=STAGES):
            at = (first + j) * H + h
            token = start + j * C
            # of the first chunk it is there already
            r_end = tl.where(j == 0, token, end) if EXACT_FIRST else end
            strength, hold, predict, get, read, decay = scales
            # a chunk ahead: nothing hides the time that these take
            scales = load_scales(rows, (first + tl.minimum(j + 1, chunks - 1)) * H + h, SECOND, C, ROWS)
            if not EFFECT:
                q_tile = load_tile(q, token, end, h, H, K, 0, C, BK, TMA)
            k_tile = load_tile(k, token, end, h, H, K, 0, C, BK, TMA)
            value = load_tile(values, token, values_end, h, H, V, v0, C, BV, TMA).to(tl.float32)
            if SECOND and CLIPPED:
                value = tl.clamp(value, -clip_inside, clip_inside, propagate_nan=tl.PropagateNan.ALL)

            S_low = S.to(dtype)
            if DELTA or PREDICTS:
                at_k = tl.dot(k_tile, S_low, input_precision=PRECISION)
            if DELTA:
                written = (strength[:, None] * (value - hold[:, None] * at_k)).to(dtype)
            else:
                U = strength[:, None] * value
                written = U.to(dtype)
            for after_write in tl.static_range(2):
                # as soon as it is decided, for the registers that values take, but a write without a product goes first
                if PREDICTS and after_write != DELTA:
                    store_error(
                        r,
                        matrices,
                        left,
                        at,
                        at_k,
                        written,
                        predict,
                        value,
                        token,
                        r_end,
                        h,
                        H,
                        v0,
                        clip,
                        clip_inside,
                        clip_outside,
                        CLIPPED,
                        NUM_MATRICES,
                        AT_PREDICT,
                        LEFT,
                        V,
                        C,
                        BV,
                        PRECISION,
                        TMA,
                        TMA and not EXACT_FIRST,
                    )
                if not after_write:
                    if DELTA:
                        inverse = load_block(inverses, at * INVERSES + SECOND, C, C, 0, C, C, TMA)
                        U = tl.dot(inverse, written, input_precision=PRECISION)
                    U *= get[:, None]
                    U_low = U.to(dtype)
                    S = tl.dot(tl.trans(k_tile), U_low, S * decay, input_precision=PRECISION)
                    if EXACT_WRITES:
                        # what rounding takes of writes adds up where keys are much alike
                        S = tl.dot(tl.trans(k_tile), lost(U, U_low), S, input_precision=PRECISION)

            if EFFECT:
                total_decay *= decay
            else:
                o_tile = tl.dot(q_tile, S_low, input_precision=PRECISION)
                o_tile *= read[:, None]
                mix = tl.trans(load_block(matrices, at * NUM_MATRICES + AT_READ, C, C, 0, C, C, TMA))
                o_tile = tl.dot(mix, written, o_tile, input_precision=PRECISION)
                if SECOND:
                    if not SUM:
                        o_tile *= strength[:, None]
                    o_tile += load_tile(o_of_S, token, end, h, H, V, v0, C, BV, TMA).to(tl.float32)
                store_tile(o, o_tile, token, end, h, H, V, v0, C, BV, TMA)
    if EFFECT:
        store_effect(final, maps, S, total_decay, state_at, K, V, v0, BK, BV, DELTA)
    else:
        store_block(final, S, state_at, K, V, v0, BK, BV)
