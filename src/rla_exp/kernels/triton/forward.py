"""The forward pass: one program carries a block of columns of S and R over a sequence's chunks, together."""

import triton
import triton.language as tl

from rla_exp.kernels.triton.chunks import (
    load_matrix,
    load_state,
    load_tile,
    sequence_span,
    store_state,
    store_tile,
)


# one binary for all lengths: what the self-check compiled is what runs
@triton.jit(do_not_specialize=["T", "LS", "H"])
def forward_kernel(
    q,
    k,
    v,
    rows,
    matrices,
    initial_S,
    initial_R,
    o,
    final_S,
    final_R,
    r_out,
    checkpoints_S,
    checkpoints_R,
    cu_seqlens,
    cu_chunks,
    T,
    LS,
    H,
    scale,
    clip,
    clip_inside,
    clip_outside,
    K: tl.constexpr,
    V: tl.constexpr,
    C: tl.constexpr,
    BK: tl.constexpr,
    BV: tl.constexpr,
    EVERY: tl.constexpr,
    DELTA: tl.constexpr,
    RESIDUAL: tl.constexpr,
    FIT: tl.constexpr,
    CLIPPED: tl.constexpr,
    SUM: tl.constexpr,
    DECAYED: tl.constexpr,
    VARLEN: tl.constexpr,
    HAS_INITIAL: tl.constexpr,
    KEEP: tl.constexpr,
    AT_TB: tl.constexpr,
    AT_TY: tl.constexpr,
    AT_READ_S: tl.constexpr,
    AT_PREDICT: tl.constexpr,
    AT_READ_R: tl.constexpr,
    NUM_MATRICES: tl.constexpr,
    PRECISION: tl.constexpr,
):
    v0 = tl.program_id(0) * BV
    n = tl.program_id(1) // H
    h = tl.program_id(1) % H
    start, end, first, chunks = sequence_span(n, cu_seqlens, cu_chunks, T, 0, LS, C, VARLEN)
    state_at = n.to(tl.int64) * H + h
    dtype = q.dtype.element_ty
    i = tl.arange(0, C)

    S = tl.zeros((BK, BV), tl.float32)
    R = tl.zeros((BK, BV), tl.float32)
    if HAS_INITIAL:
        S = load_state(initial_S, state_at, K, V, 0, v0, BK, BV)
        if RESIDUAL:
            R = load_state(initial_R, state_at, K, V, 0, v0, BK, BV)

    for j in range(0, chunks):
        at = (first + j) * H + h
        token = start + j * C
        if KEEP:
            if j % EVERY == 0:
                checkpoint_at = (first // EVERY + n + j // EVERY) * H + h
                store_state(checkpoints_S, S, checkpoint_at, K, V, v0, BK, BV)
                if RESIDUAL:
                    store_state(checkpoints_R, R, checkpoint_at, K, V, v0, BK, BV)

        gates = rows + at * (8 * C)
        G = tl.load(gates + i)
        G_last = tl.load(gates + C - 1)
        b = tl.load(gates + 2 * C + i)
        k_norm = tl.load(gates + 4 * C + i)
        read = tl.load(gates + 5 * C + i) * scale
        decay = tl.exp(G)
        decay_before = tl.exp(tl.load(gates + C + i))
        to_end = tl.exp(G_last - G) * k_norm
        decay_all = tl.exp(G_last)

        q_tile = load_tile(q, token, end, h, H, K, 0, C, BK)
        k_tile = load_tile(k, token, end, h, H, K, 0, C, BK)
        v_tile = load_tile(v, token, end, h, H, V, v0, C, BV).to(tl.float32)

        S_low = S.to(dtype)
        o_tile = tl.dot(q_tile, S_low, input_precision=PRECISION)
        o_tile *= (read * (decay_before if SUM else decay))[:, None]
        if DELTA or FIT:
            at_k = tl.dot(k_tile, S_low, input_precision=PRECISION) * k_norm[:, None]
        if DELTA:
            written = (b[:, None] * (v_tile - decay[:, None] * at_k)).to(dtype)
            T_b = load_matrix(matrices, at * NUM_MATRICES + AT_TB, C)
            U = tl.dot(T_b, written, input_precision=PRECISION)
        else:
            U = b[:, None] * v_tile
            written = U.to(dtype)
        read_s = load_matrix(matrices, at * NUM_MATRICES + AT_READ_S, C)
        o_tile = tl.dot(read_s, written, o_tile, input_precision=PRECISION)
        r = v_tile
        if FIT:
            prediction = at_k * (decay if DECAYED else decay_before)[:, None]
            predict = load_matrix(matrices, at * NUM_MATRICES + AT_PREDICT, C)
            prediction = tl.dot(predict, written, prediction, input_precision=PRECISION)
            r = v_tile - prediction
            kept = r
            if CLIPPED:
                # a NaN is not outside: it must stay one
                outside = tl.abs(r) > clip
                sign = tl.where(r < 0, -1.0, 1.0)
                if KEEP:
                    # rounding must not move an entry over the bound: where it was clipped is read from r later
                    rounded = r.to(dtype).to(tl.float32)
                    kept = tl.where(outside, sign * clip_outside, tl.clamp(rounded, -clip_inside, clip_inside))
                r = tl.where(outside, sign * clip, r)
            if KEEP:
                store_tile(r_out, kept, token, end, h, H, V, v0, C, BV)
        S = tl.dot(tl.trans(k_tile), (U * to_end[:, None]).to(dtype), S * decay_all, input_precision=PRECISION)

        if RESIDUAL:
            y = tl.load(gates + 3 * C + i)
            R_low = R.to(dtype)
            read_tile = tl.dot(q_tile, R_low, input_precision=PRECISION) * (read * decay)[:, None]
            if DELTA:
                at_k = tl.dot(k_tile, R_low, input_precision=PRECISION) * k_norm[:, None]
                written = (y[:, None] * (r - decay[:, None] * at_k)).to(dtype)
                T_y = load_matrix(matrices, at * NUM_MATRICES + AT_TY, C)
                W = tl.dot(T_y, written, input_precision=PRECISION)
            else:
                W = y[:, None] * r
                written = W.to(dtype)
            read_r = load_matrix(matrices, at * NUM_MATRICES + AT_READ_R, C)
            read_tile = tl.dot(read_r, written, read_tile, input_precision=PRECISION)
            R = tl.dot(tl.trans(k_tile), (W * to_end[:, None]).to(dtype), R * decay_all, input_precision=PRECISION)
            o_tile += read_tile if SUM else y[:, None] * read_tile
        store_tile(o, o_tile, token, end, h, H, V, v0, C, BV)

    store_state(final_S, S, state_at, K, V, v0, BK, BV)
    if RESIDUAL:
        store_state(final_R, R, state_at, K, V, v0, BK, BV)
