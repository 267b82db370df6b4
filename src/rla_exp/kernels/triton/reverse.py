"""The backward recursion over chunks, last to first: one program carries a block of columns of dR and dS, together."""

import triton
import triton.language as tl

from rla_exp.kernels.triton.chunks import (
    load_matrix,
    load_state,
    load_tile,
    sequence_span,
    store_block,
    store_state,
)


# one binary for all lengths: what the self-check compiled is what runs
@triton.jit(do_not_specialize=["T", "J0", "LS", "H"])
def reverse_kernel(
    q,
    k,
    r,
    do,
    rows,
    matrices,
    d_S,
    d_R,
    after_S,
    after_R,
    solved_S,
    solved_R,
    cu_seqlens,
    cu_chunks,
    T,
    J0,
    LS,
    H,
    scale,
    bound,
    K: tl.constexpr,
    V: tl.constexpr,
    C: tl.constexpr,
    BK: tl.constexpr,
    BV: tl.constexpr,
    DELTA: tl.constexpr,
    RESIDUAL: tl.constexpr,
    FIT: tl.constexpr,
    CLIPPED: tl.constexpr,
    SUM: tl.constexpr,
    DECAYED: tl.constexpr,
    VARLEN: tl.constexpr,
    AT_TB: tl.constexpr,
    AT_TY: tl.constexpr,
    AT_READ_S: tl.constexpr,
    AT_PREDICT: tl.constexpr,
    AT_READ_R: tl.constexpr,
    NUM_MATRICES: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """d_S, d_R [N, H, K, V] hold the gradients of the states after the slice, and then those before it.

    For each chunk it leaves the gradients of the states after the chunk (after_S, after_R) and the solutions of the
    transposed systems (solved_S, solved_R [chunks, H, C, V]), from which all other gradients follow chunk by chunk.
    """
    v0 = tl.program_id(0) * BV
    n = tl.program_id(1) // H
    h = tl.program_id(1) % H
    start, end, first, chunks = sequence_span(n, cu_seqlens, cu_chunks, T, J0, LS, C, VARLEN)
    state_at = n.to(tl.int64) * H + h
    dtype = q.dtype.element_ty
    i = tl.arange(0, C)

    dS = load_state(d_S, state_at, K, V, 0, v0, BK, BV)
    dR = tl.zeros((BK, BV), tl.float32)
    if RESIDUAL:
        dR = load_state(d_R, state_at, K, V, 0, v0, BK, BV)

    for step in range(0, chunks):
        j = chunks - 1 - step
        at = (first + j) * H + h
        token = start + (J0 + j) * C

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
        do_tile = load_tile(do, token, end, h, H, V, v0, C, BV)
        do_float = do_tile.to(tl.float32)

        if RESIDUAL:
            y = tl.load(gates + 3 * C + i)
            do_R = do_float if SUM else y[:, None] * do_float
            dR_low = dR.to(dtype)
            store_state(after_R, dR_low, at, K, V, v0, BK, BV)
            dW = tl.dot(k_tile, dR_low, input_precision=PRECISION) * to_end[:, None]
            if DELTA:
                T_y = load_matrix(matrices, at * NUM_MATRICES + AT_TY, C)
                dW = tl.dot(tl.trans(T_y), dW.to(dtype), input_precision=PRECISION)
            read_r = load_matrix(matrices, at * NUM_MATRICES + AT_READ_R, C)
            solved = tl.dot(tl.trans(read_r), do_R.to(dtype), dW, input_precision=PRECISION)
            store_block(solved_R, solved, at, C, V, v0, BV)
            d_error = y[:, None] * solved
            dR = tl.dot(
                tl.trans(q_tile), ((read * decay)[:, None] * do_R).to(dtype), dR * decay_all, input_precision=PRECISION
            )
            if DELTA:
                d_at_k = (-(decay * k_norm)[:, None] * d_error).to(dtype)
                dR = tl.dot(tl.trans(k_tile), d_at_k, dR, input_precision=PRECISION)
            if FIT:
                d_prediction = -d_error
                if CLIPPED:
                    r_tile = load_tile(r, token, end, h, H, V, v0, C, BV).to(tl.float32)
                    d_prediction = tl.where(tl.abs(r_tile) > bound, 0.0, d_prediction)

        dS_low = dS.to(dtype)
        store_state(after_S, dS_low, at, K, V, v0, BK, BV)
        dU = tl.dot(k_tile, dS_low, input_precision=PRECISION) * to_end[:, None]
        if DELTA:
            T_b = load_matrix(matrices, at * NUM_MATRICES + AT_TB, C)
            dU = tl.dot(tl.trans(T_b), dU.to(dtype), input_precision=PRECISION)
        read_s = load_matrix(matrices, at * NUM_MATRICES + AT_READ_S, C)
        solved = tl.dot(tl.trans(read_s), do_tile, dU, input_precision=PRECISION)
        if FIT:
            predict = load_matrix(matrices, at * NUM_MATRICES + AT_PREDICT, C)
            solved = tl.dot(tl.trans(predict), d_prediction.to(dtype), solved, input_precision=PRECISION)
        store_block(solved_S, solved, at, C, V, v0, BV)
        read_decay = decay_before if SUM else decay
        dS = tl.dot(
            tl.trans(q_tile),
            ((read * read_decay)[:, None] * do_float).to(dtype),
            dS * decay_all,
            input_precision=PRECISION,
        )
        if DELTA or FIT:
            d_at_k = tl.zeros((C, BV), tl.float32)
            if FIT:
                d_at_k += (decay if DECAYED else decay_before)[:, None] * d_prediction
            if DELTA:
                d_at_k -= (decay * b)[:, None] * solved
            dS = tl.dot(tl.trans(k_tile), (k_norm[:, None] * d_at_k).to(dtype), dS, input_precision=PRECISION)

    store_state(d_S, dS, state_at, K, V, v0, BK, BV)
    if RESIDUAL:
        store_state(d_R, dR, state_at, K, V, v0, BK, BV)
