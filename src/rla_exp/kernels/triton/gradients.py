"""The gradients of every input but the states: each chunk and head on its own, all in parallel, no atomics."""

import triton
import triton.language as tl

from rla_exp.kernels.triton.chunks import chunk_span, load_matrix, load_state, load_tile, store_tile


@triton.jit
def load_solved(x, at, V: tl.constexpr, v0, C: tl.constexpr, BV: tl.constexpr):
    """[C, BV] of the at-th of x [.., C, V], columns from v0."""
    d = v0 + tl.arange(0, BV)
    return tl.load(x + at * (C * V) + tl.arange(0, C)[:, None] * V + d[None, :], mask=(d < V)[None, :], other=0.0)


@triton.jit
def gradients_kernel(
    q,
    k,
    v,
    r,
    do,
    rows,
    matrices,
    before_S,
    before_R,
    after_S,
    after_R,
    solved_S,
    solved_R,
    dq,
    dk,
    dv,
    dg,
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
    NORMALIZE: tl.constexpr,
    VARLEN: tl.constexpr,
    AT_TB: tl.constexpr,
    AT_TY: tl.constexpr,
    NUM_MATRICES: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Writes dq, dk, dv and the gates' gradients. Outer products over the columns of V are summed block by block.

    dk is summed as its transposed: no accumulator is then transposed into a left operand, which some versions of
    Triton miscompile on Hopper.
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

    gates = rows + at * (6 * C)
    G = tl.load(gates + i)
    G_before = tl.load(gates + C + i)
    G_last = tl.load(gates + C - 1)
    b = tl.load(gates + 2 * C + i)
    k_norm = tl.load(gates + 4 * C + i)
    q_norm = tl.load(gates + 5 * C + i)
    read = q_norm * scale
    decay = tl.exp(G)
    decay_before = tl.exp(G_before)
    to_end = tl.exp(G_last - G)
    decay_all = tl.exp(G_last)
    read_decay = decay_before if SUM else decay
    predict_decay = decay if DECAYED else decay_before
    y = b
    if RESIDUAL:
        y = tl.load(gates + 3 * C + i)

    q_tile = load_tile(q, start, end, h, H, K, 0, C, BK)
    k_tile = load_tile(k, start, end, h, H, K, 0, C, BK)

    read_states = tl.zeros((C, BK), tl.float32)  # of dq, through the states before the chunk
    written = tl.zeros((BK, C), tl.float32)  # of dk, transposed: through the states after the chunk
    erased = tl.zeros((BK, C), tl.float32)  # the same, through the states before the chunk
    output_U = tl.zeros((C, C), tl.float32)
    output_W = tl.zeros((C, C), tl.float32)
    solved_U = tl.zeros((C, C), tl.float32)
    solved_W = tl.zeros((C, C), tl.float32)
    prediction_U = tl.zeros((C, C), tl.float32)
    d_b = tl.zeros((C,), tl.float32)
    d_y = tl.zeros((C,), tl.float32)
    d_G = tl.zeros((C,), tl.float32)
    d_G_before = tl.zeros((C,), tl.float32)
    d_G_last = 0.0

    for v0 in range(0, V, BV):
        v_tile = load_tile(v, start, end, h, H, V, v0, C, BV).to(tl.float32)
        do_tile = load_tile(do, start, end, h, H, V, v0, C, BV)
        S = load_state(before_S, at, K, V, v0, BK, BV)
        dS = load_state(after_S, at, K, V, v0, BK, BV)
        lam = load_solved(solved_S, at, V, v0, C, BV)
        lam_float = lam.to(tl.float32)
        d_v = b[:, None] * lam_float
        d_at_k = tl.zeros((C, BV), tl.float32)
        if DELTA or FIT:
            at_k = tl.dot(k_tile, S, input_precision=PRECISION) * k_norm[:, None]
        error = v_tile
        if DELTA:
            error -= decay[:, None] * at_k
            T_b = load_matrix(matrices, at * NUM_MATRICES + AT_TB, C)
            U = tl.dot(T_b, (b[:, None] * error).to(dtype), input_precision=PRECISION)
            d_at_k -= decay[:, None] * d_v
            d_G -= decay * tl.sum(d_v * at_k, 1)
        else:
            U = b[:, None] * v_tile
        U_low = U.to(dtype)
        d_b += tl.sum(lam_float * error, 1)

        if RESIDUAL:
            R = load_state(before_R, at, K, V, v0, BK, BV)
            dR = load_state(after_R, at, K, V, v0, BK, BV)
            mu = load_solved(solved_R, at, V, v0, C, BV)
            mu_float = mu.to(tl.float32)
            d_r = y[:, None] * mu_float
            r_tile = v_tile
            if FIT:
                r_tile = load_tile(r, start, end, h, H, V, v0, C, BV).to(tl.float32)
                passed = d_r
                if CLIPPED:
                    passed = tl.where(tl.abs(r_tile) > bound, 0.0, d_r)
                    r_tile = tl.clamp(r_tile, -bound, bound)
                d_v += passed
                d_at_k -= predict_decay[:, None] * passed
                through = -predict_decay * tl.sum(passed * at_k, 1)
                if DECAYED:
                    d_G += through
                else:
                    d_G_before += through
                prediction_U = tl.dot((-passed).to(dtype), tl.trans(U_low), prediction_U, input_precision=PRECISION)
            else:
                d_v += d_r
            error = r_tile
            if DELTA:
                at_k = tl.dot(k_tile, R, input_precision=PRECISION) * k_norm[:, None]
                error -= decay[:, None] * at_k
                T_y = load_matrix(matrices, at * NUM_MATRICES + AT_TY, C)
                W = tl.dot(T_y, (y[:, None] * error).to(dtype), input_precision=PRECISION)
                d_at_k_R = -decay[:, None] * d_r
                d_G += tl.sum(d_at_k_R * at_k, 1)
                erased = tl.dot(R, tl.trans(d_at_k_R.to(dtype)), erased, input_precision=PRECISION)
            else:
                W = y[:, None] * r_tile
            W_low = W.to(dtype)
            d_y += tl.sum(mu_float * error, 1)
            if DELTA:
                solved_W = tl.dot(mu, tl.trans(W_low), solved_W, input_precision=PRECISION)
            output_W = tl.dot(do_tile, tl.trans(W_low), output_W, input_precision=PRECISION)
            written = tl.dot(dR, tl.trans((to_end[:, None] * W).to(dtype)), written, input_precision=PRECISION)
            d_G_last += tl.sum(R.to(tl.float32) * dR.to(tl.float32))
            at_q = tl.dot(do_tile, tl.trans(R), input_precision=PRECISION)
            if not SUM:
                through = decay * read * tl.sum(q_tile.to(tl.float32) * at_q, 1)
                d_y += through
                at_q *= y[:, None]
            read_states += decay[:, None] * at_q
            if SUM:
                # S is read one step earlier here: its share goes to the gate before
                d_G += decay * read * tl.sum(q_tile.to(tl.float32) * at_q, 1)

        store_tile(dv, d_v, start, end, h, H, V, v0, C, BV)
        if DELTA:
            solved_U = tl.dot(lam, tl.trans(U_low), solved_U, input_precision=PRECISION)
        output_U = tl.dot(do_tile, tl.trans(U_low), output_U, input_precision=PRECISION)
        written = tl.dot(dS, tl.trans((to_end[:, None] * U).to(dtype)), written, input_precision=PRECISION)
        d_G_last += tl.sum(S.to(tl.float32) * dS.to(tl.float32))
        if DELTA or FIT:
            erased = tl.dot(S, tl.trans(d_at_k.to(dtype)), erased, input_precision=PRECISION)
        at_q = tl.dot(do_tile, tl.trans(S), input_precision=PRECISION)
        read_states += read_decay[:, None] * at_q
        if SUM:
            d_G_before += decay_before * read * tl.sum(q_tile.to(tl.float32) * at_q, 1)

    if not SUM:
        d_G += read * tl.sum(q_tile.to(tl.float32) * read_states, 1)

    # the share of the last row of written is exp(0) = 1 whatever the gates: left out of both sums
    through = k_norm * tl.sum(tl.trans(k_tile).to(tl.float32) * written, 0)
    through = tl.where(i == C - 1, 0.0, through)
    d_G -= through
    d_G_last = d_G_last * decay_all + tl.sum(through)
    d_G += tl.where(i == C - 1, d_G_last, 0.0)

    later = i[:, None] > i[None, :]
    not_before = i[:, None] >= i[None, :]
    D = tl.exp(tl.where(not_before, G[:, None] - G[None, :], float("-inf")))
    D_strict = tl.where(later, D, 0.0)
    D_before = tl.exp(tl.where(later, G_before[:, None] - G[None, :], float("-inf")))
    QK = tl.dot(q_tile, tl.trans(k_tile), input_precision=PRECISION) * read[:, None] * k_norm[None, :]

    # of the scores: once with D (d_qk, theta), once with D^- (theta_before)
    d_qk = D * output_U
    theta_before = tl.zeros((C, C), tl.float32)
    if RESIDUAL:
        d_qk = (D_before if SUM else D_strict) * output_U
        through_W = D * output_W
        if not SUM:
            d_y += tl.sum(QK * through_W, 1)
            through_W = y[:, None] * through_W
    theta = QK * d_qk
    if SUM:
        theta_before = theta
        theta = tl.zeros((C, C), tl.float32)
    if RESIDUAL:
        theta += QK * through_W
        d_qk += through_W
    d_kk = tl.zeros((C, C), tl.float32)
    if DELTA or FIT:
        KK = tl.dot(k_tile, tl.trans(k_tile), input_precision=PRECISION) * k_norm[:, None] * k_norm[None, :]
        d_n = tl.zeros((C, C), tl.float32)
        if DELTA:
            d_n -= b[:, None] * solved_U
            d_b -= tl.sum(D_strict * KK * solved_U, 1)
            if RESIDUAL:
                d_n -= y[:, None] * solved_W
                d_y -= tl.sum(D_strict * KK * solved_W, 1)
        if DECAYED:
            d_n += prediction_U
        d_kk += D_strict * d_n
        theta += KK * D_strict * d_n
        if FIT and not DECAYED:
            d_kk += D_before * prediction_U
            theta_before += KK * D_before * prediction_U
    # entries that are 1 whatever the gates would only cancel
    theta = tl.where(later, theta, 0.0)
    theta_before = tl.where(i[:, None] > i[None, :] + 1, theta_before, 0.0)
    d_G += tl.sum(theta, 1) - tl.sum(theta + theta_before, 0)
    d_G_before += tl.sum(theta_before, 1)
    d_log_a = tl.sum(tl.where(not_before, d_G[:, None], 0.0) + tl.where(later, d_G_before[:, None], 0.0), 0)

    d_q = read_states + tl.dot((d_qk * k_norm[None, :]).to(dtype), k_tile, input_precision=PRECISION)
    d_q *= read[:, None]
    d_k = written + erased
    d_k = tl.dot(tl.trans(q_tile), (d_qk * read[:, None]).to(dtype), d_k, input_precision=PRECISION)
    if DELTA or FIT:
        weighted = (d_kk * k_norm[None, :]).to(dtype)
        d_k = tl.dot(tl.trans(k_tile), tl.trans(weighted), d_k, input_precision=PRECISION)
        weighted = (d_kk * k_norm[:, None]).to(dtype)
        d_k = tl.dot(tl.trans(k_tile), weighted, d_k, input_precision=PRECISION)
    d_k = tl.trans(d_k) * k_norm[:, None]
    if NORMALIZE:
        q_hat = q_tile.to(tl.float32) * q_norm[:, None]
        k_hat = k_tile.to(tl.float32) * k_norm[:, None]
        d_q -= q_hat * tl.sum(q_hat * d_q, 1)[:, None]
        d_k -= k_hat * tl.sum(k_hat * d_k, 1)[:, None]
    store_tile(dq, d_q, start, end, h, H, K, 0, C, BK)
    store_tile(dk, d_k, start, end, h, H, K, 0, C, BK)
    tl.store(dg + t * H + h, d_log_a, mask=inside)
    tl.store(dbeta + t * H + h, d_b, mask=inside)
    if RESIDUAL:
        tl.store(dgamma + t * H + h, d_y, mask=inside)
