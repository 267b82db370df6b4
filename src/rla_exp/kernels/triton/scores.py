"""Of the backward pass, what stays inside a chunk: the C x C matrices, the values and the gates of the states.

All chunks in parallel. It takes over buffers of its own chunk in place: what it leaves there is what the gradients of
q and k need next (gradients.py).
"""

import triton
import triton.language as tl

from rla_exp.kernels.triton.chunks import (
    chunk_span,
    load_block,
    load_matrix,
    load_tile,
    store_block,
    store_matrix,
    store_tile,
)


# one binary for all lengths: what the self-check compiled is what runs
@triton.jit(do_not_specialize=["T", "J0", "LS", "H"])
def scores_kernel(
    q,
    k,
    v,
    r,
    do,
    rows,
    matrices,
    at_k_S,
    at_k_R,
    solved_S,
    solved_R,
    dv,
    dbeta,
    dgamma,
    cu_seqlens,
    chunk_table,
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
    NUM_MATRICES: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Reads S k and R k (at_k_*) and the solved systems; leaves in their places

        at_k_S, at_k_R: U and W, what was written into the states
        solved_S, solved_R: the gradients of S k and of R k
        matrices: the gradients of the scores Q K^T (READ_S) and K K^T (T_b, or PREDICT with the additive rule)
        rows 6 and 7: gradients of G_t and G_{t-1}, as far as they are known here

    and writes dv, dbeta, and dgamma but for the read of R before the chunk.
    """
    index = tl.program_id(0).to(tl.int64)
    h = tl.program_id(1)
    n, start, end = chunk_span(index, cu_seqlens, chunk_table, T, J0, LS, C, VARLEN)
    if n < 0:
        return
    at = index * H + h
    dtype = q.dtype.element_ty
    i = tl.arange(0, C)
    t = start + i
    inside = t < end
    later = i[:, None] > i[None, :]

    gates = rows + at * (8 * C)
    G = tl.load(gates + i)
    G_before = tl.load(gates + C + i)
    b = tl.load(gates + 2 * C + i)
    k_norm = tl.load(gates + 4 * C + i)
    read = tl.load(gates + 5 * C + i) * scale
    decay = tl.exp(G)
    predict_decay = decay if DECAYED else tl.exp(G_before)
    d_G = tl.zeros((C,), tl.float32)
    d_G_before = tl.zeros((C,), tl.float32)

    d_b = tl.zeros((C,), tl.float32)
    d_y = tl.zeros((C,), tl.float32)
    y = b
    if RESIDUAL:
        y = tl.load(gates + 3 * C + i)
    if DELTA:
        T_b = load_matrix(matrices, at * NUM_MATRICES + AT_TB, C)
        if RESIDUAL:
            T_y = load_matrix(matrices, at * NUM_MATRICES + AT_TY, C)
    # outer products over the columns of V
    d_qk = tl.zeros((C, C), tl.float32)
    d_qk_R = tl.zeros((C, C), tl.float32)
    d_n = tl.zeros((C, C), tl.float32)
    d_n_R = tl.zeros((C, C), tl.float32)
    d_predict = tl.zeros((C, C), tl.float32)

    for v0 in range(0, V, BV):
        # S: what was written, and what its gradient leads to
        v_tile = load_tile(v, start, end, h, H, V, v0, C, BV).to(tl.float32)
        do_tile = load_tile(do, start, end, h, H, V, v0, C, BV)
        lam = load_block(solved_S, at, C, V, v0, BV)
        d_v = b[:, None] * lam.to(tl.float32)
        error = v_tile
        if DELTA or FIT:
            at_k = load_block(at_k_S, at, C, V, v0, BV).to(tl.float32)
            d_at_k = tl.zeros((C, BV), tl.float32)
        if DELTA:
            error -= decay[:, None] * at_k
            U = tl.dot(T_b, (b[:, None] * error).to(dtype), input_precision=PRECISION).to(dtype)
            d_at_k -= decay[:, None] * d_v
            d_G -= decay * tl.sum(d_v * at_k, 1)
            d_n = tl.dot(lam, tl.trans(U), d_n, input_precision=PRECISION)
        else:
            U = (b[:, None] * v_tile).to(dtype)
        d_b += tl.sum(lam.to(tl.float32) * error, 1)
        d_qk = tl.dot(do_tile, tl.trans(U), d_qk, input_precision=PRECISION)

        if RESIDUAL:
            mu = load_block(solved_R, at, C, V, v0, BV)
            d_r = y[:, None] * mu.to(tl.float32)
            error = v_tile
            if FIT:
                error = load_tile(r, start, end, h, H, V, v0, C, BV).to(tl.float32)
                passed = d_r
                if CLIPPED:
                    passed = tl.where(tl.abs(error) > bound, 0.0, d_r)
                    error = tl.clamp(error, -bound, bound)
                d_v += passed
                d_at_k -= predict_decay[:, None] * passed
                through = -predict_decay * tl.sum(passed * at_k, 1)
                if DECAYED:
                    d_G += through
                else:
                    d_G_before += through
                d_predict = tl.dot((-passed).to(dtype), tl.trans(U), d_predict, input_precision=PRECISION)
            else:
                d_v += d_r
            if DELTA:
                at_k = load_block(at_k_R, at, C, V, v0, BV).to(tl.float32)
                error -= decay[:, None] * at_k
                W = tl.dot(T_y, (y[:, None] * error).to(dtype), input_precision=PRECISION).to(dtype)
                d_r *= -decay[:, None]
                d_G += tl.sum(d_r * at_k, 1)
                d_n_R = tl.dot(mu, tl.trans(W), d_n_R, input_precision=PRECISION)
                store_block(solved_R, d_r, at, C, V, v0, BV)
            else:
                W = (y[:, None] * error).to(dtype)
            d_y += tl.sum(mu.to(tl.float32) * error, 1)
            store_block(at_k_R, W, at, C, V, v0, BV)
            d_qk_R = tl.dot(do_tile, tl.trans(W), d_qk_R, input_precision=PRECISION)
        store_tile(dv, d_v, start, end, h, H, V, v0, C, BV)
        if DELTA or FIT:
            store_block(solved_S, d_at_k, at, C, V, v0, BV)
        store_block(at_k_S, U, at, C, V, v0, BV)

    # D is 1 on the diagonal, D^- beside it, whatever the gates: those entries are left out of the gates' sums
    D = tl.exp(tl.where(i[:, None] >= i[None, :], G[:, None] - G[None, :], float("-inf")))
    D_before = tl.exp(tl.where(later, G_before[:, None] - G[None, :], float("-inf")))
    q_tile = load_tile(q, start, end, h, H, K, 0, C, BK)
    k_tile = load_tile(k, start, end, h, H, K, 0, C, BK)
    QK = tl.dot(q_tile, tl.trans(k_tile), input_precision=PRECISION) * read[:, None] * k_norm[None, :]
    theta = tl.zeros((C, C), tl.float32)
    theta_before = tl.zeros((C, C), tl.float32)
    if SUM:
        d_qk *= D_before
        theta_before += QK * d_qk
    else:
        d_qk *= tl.where(later, D, 0.0) if RESIDUAL else D
        theta += QK * d_qk
    if RESIDUAL:
        d_qk_R *= D
        if not SUM:
            d_y += tl.sum(QK * d_qk_R, 1)
            d_qk_R *= y[:, None]
        theta += QK * d_qk_R
        d_qk += d_qk_R
    store_matrix(matrices, d_qk, at * NUM_MATRICES + AT_READ_S, C)

    if DELTA or FIT:
        KK = tl.dot(k_tile, tl.trans(k_tile), input_precision=PRECISION) * k_norm[:, None] * k_norm[None, :]
        D = tl.where(later, D, 0.0)
        d_kk = tl.zeros((C, C), tl.float32)
        if DELTA:
            d_b -= tl.sum(D * KK * d_n, 1)
            d_kk -= b[:, None] * d_n
            if RESIDUAL:
                d_y -= tl.sum(D * KK * d_n_R, 1)
                d_kk -= y[:, None] * d_n_R
        if DECAYED:
            d_kk += d_predict
        d_kk *= D
        theta += KK * d_kk
        if FIT and not DECAYED:
            d_predict *= D_before
            theta_before += KK * d_predict
            d_kk += d_predict
        store_matrix(matrices, d_kk, at * NUM_MATRICES + (AT_TB if DELTA else AT_PREDICT), C)
    theta = tl.where(later, theta, 0.0)
    theta_before = tl.where(i[:, None] > i[None, :] + 1, theta_before, 0.0)
    tl.store(gates + 6 * C + i, d_G + tl.sum(theta, 1) - tl.sum(theta + theta_before, 0))
    tl.store(gates + 7 * C + i, d_G_before + tl.sum(theta_before, 1))
    tl.store(dbeta + t * H + h, d_b, mask=inside)
    if RESIDUAL:
        tl.store(dgamma + t * H + h, d_y, mask=inside)
