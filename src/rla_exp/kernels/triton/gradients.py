"""The gradients of q, k and the gates, chunk by chunk, from the states before and the gradients after each chunk.

All chunks in parallel, no atomics: a program sums over all of V, block by block. What passes through R comes first, and
is added to what passes through S.
"""

import triton
import triton.language as tl

from rla_exp.kernels.triton.chunks import (
    chunk_span,
    load_block,
    load_tile,
    place_in_all,
    store_tile,
)


# one binary for all lengths: what the self-check compiled is what runs
@triton.jit(do_not_specialize=["T", "J0", "LS", "H"])
def gradients_kernel(
    q,
    k,
    values,
    r,
    do,
    rows,
    inverses,
    before,
    after,
    reads,
    solved,
    solved_R,
    dq,
    dk,
    dg,
    d_strength,
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
    ROWS: tl.constexpr,
    DELTA: tl.constexpr,
    RESIDUAL: tl.constexpr,
    FIT: tl.constexpr,
    CLIPPED: tl.constexpr,
    SUM: tl.constexpr,
    DECAYED: tl.constexpr,
    NORMALIZE: tl.constexpr,
    VARLEN: tl.constexpr,
    SECOND: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """SECOND: R, with gamma: dgamma, and R's shares of dq, dk and dg. Else S: dbeta, and the sums.

    dk is summed as its transposed: no accumulator is then transposed into a left operand, which some versions of
    Triton miscompile on Hopper.
    """
    index = tl.program_id(0).to(tl.int64)
    h = tl.program_id(1)
    n, start, end = chunk_span(index, cu_seqlens, chunk_table, T, J0, LS, C, VARLEN)
    if n < 0:
        return
    INVERSES: tl.constexpr = 2 if RESIDUAL else 1
    PREDICTED: tl.constexpr = FIT and not SECOND
    READ: tl.constexpr = DELTA or PREDICTED
    # how o reads the state: with D^- or D, and scaled by gamma or not
    BEFORE: tl.constexpr = SUM and not SECOND
    GATED: tl.constexpr = SECOND and not SUM
    at = index * H + h
    dtype = q.dtype.element_ty
    i = tl.arange(0, C)
    t = start + i
    inside = t < end
    later = i[:, None] > i[None, :]

    gates = rows + at * (ROWS * C)
    G = tl.load(gates + i)
    G_before = tl.load(gates + C + i)
    G_last = tl.load(gates + C - 1)
    strength = tl.load(gates + (3 if SECOND else 2) * C + i)
    k_norm = tl.load(gates + 4 * C + i)
    q_norm = tl.load(gates + 5 * C + i)
    read = q_norm * scale
    decay = tl.exp(G)
    decay_before = tl.exp(G_before)
    to_end = tl.exp(G_last - G)
    if DELTA:
        inverse_at = (place_in_all(index, T, J0, LS, C, VARLEN) * H + h) * INVERSES + SECOND
        inverse = load_block(inverses, inverse_at, C, C, 0, C, C)

    d_G = tl.zeros((C,), tl.float32)
    d_G_before = tl.zeros((C,), tl.float32)
    d_s = tl.zeros((C,), tl.float32)
    kept = tl.zeros((C,), tl.float32)  # k . d k through what the state gets
    inner = 0.0  # <S, dS>
    # outer products over the columns of V
    d_qk = tl.zeros((C, C), tl.float32)
    d_n = tl.zeros((C, C), tl.float32)
    d_predict = tl.zeros((C, C), tl.float32)
    # through the state
    d_q = tl.zeros((C, BK), tl.float32)
    d_k = tl.zeros((BK, C), tl.float32)

    k_tile = load_tile(k, start, end, h, H, K, 0, C, BK)
    for v0 in range(0, V, BV):
        do_tile = load_tile(do, start, end, h, H, V, v0, C, BV)
        error = load_tile(values, start, end, h, H, V, v0, C, BV).to(tl.float32)
        if SECOND and CLIPPED:
            error = tl.clamp(error, -bound, bound, propagate_nan=tl.PropagateNan.ALL)
        lam = load_block(solved, at, C, V, v0, C, BV)
        S = load_block(before, at, K, V, v0, BK, BV)
        dS = load_block(after, at, K, V, v0, BK, BV)
        inner += tl.sum(S.to(tl.float32) * dS.to(tl.float32))
        d_at_k = tl.zeros((C, BV), tl.float32)
        if READ:
            at_k = load_block(reads, at, C, V, v0, C, BV).to(tl.float32)
        if DELTA:
            error -= decay[:, None] * at_k
            U = tl.dot(inverse, (strength[:, None] * error).to(dtype), input_precision=PRECISION).to(dtype)
            d_at_k -= (decay * strength)[:, None] * lam.to(tl.float32)
            d_n = tl.dot(lam, tl.trans(U), d_n, input_precision=PRECISION)
            d_G += tl.sum(d_at_k * at_k, 1)
        else:
            U = (strength[:, None] * error).to(dtype)
        d_s += tl.sum(lam.to(tl.float32) * error, 1)
        d_qk = tl.dot(do_tile, tl.trans(U), d_qk, input_precision=PRECISION)
        if PREDICTED:
            y = tl.load(gates + 3 * C + i)
            passed = y[:, None] * load_block(solved_R, at, C, V, v0, C, BV).to(tl.float32)
            if CLIPPED:
                clipped = load_tile(r, start, end, h, H, V, v0, C, BV).to(tl.float32)
                passed = tl.where(tl.abs(clipped) > bound, 0.0, passed)
            d_predict = tl.dot((-passed).to(dtype), tl.trans(U), d_predict, input_precision=PRECISION)
            passed *= (decay if DECAYED else decay_before)[:, None]
            d_at_k -= passed
            if DECAYED:
                d_G -= tl.sum(passed * at_k, 1)
            else:
                d_G_before -= tl.sum(passed * at_k, 1)
        d_q = tl.dot(do_tile, tl.trans(S), d_q, input_precision=PRECISION)
        # by itself: what it adds to d_k may be far below the rounding of the rest
        gotten = to_end[:, None] * U.to(tl.float32)
        kept += tl.sum(gotten * tl.dot(k_tile, dS, input_precision=PRECISION), 1)
        d_k = tl.dot(dS, tl.trans(gotten.to(dtype)), d_k, input_precision=PRECISION)
        if READ:
            d_k = tl.dot(S, tl.trans(d_at_k.to(dtype)), d_k, input_precision=PRECISION)

    q_tile = load_tile(q, start, end, h, H, K, 0, C, BK)
    # of the gates, through the state
    d_q *= (decay_before if BEFORE else decay)[:, None]
    along = read * tl.sum(q_tile.to(tl.float32) * d_q, 1)
    if GATED:
        d_s += along
        along *= strength
        d_q *= strength[:, None]
    if BEFORE:
        d_G_before += along
    else:
        d_G += along
    # the share of the sequence's last row is exp(0) = 1 whatever the gates: left out of both sums
    last = tl.minimum(end - start, C) - 1
    kept = tl.where(i == last, 0.0, k_norm * kept)
    d_G -= kept
    d_G += tl.where(i == last, inner * tl.exp(G_last) + tl.sum(kept), 0.0)

    # inside the chunk. D is 1 on the diagonal, D^- beside it, whatever the gates: those entries are left out of the
    # gates' sums
    D = tl.exp(tl.where(i[:, None] >= i[None, :], G[:, None] - G[None, :], float("-inf")))
    D_before = tl.exp(tl.where(later, G_before[:, None] - G[None, :], float("-inf")))
    QK = tl.dot(q_tile, tl.trans(k_tile), input_precision=PRECISION) * read[:, None] * k_norm[None, :]
    theta = tl.zeros((C, C), tl.float32)
    theta_before = tl.zeros((C, C), tl.float32)
    if BEFORE:
        d_qk *= D_before
        theta_before += QK * d_qk
    else:
        d_qk *= tl.where(later, D, 0.0) if RESIDUAL and not SECOND else D
        if GATED:
            d_s += tl.sum(QK * d_qk, 1)
            d_qk *= strength[:, None]
        theta += QK * d_qk
    d_q += tl.dot((d_qk * k_norm[None, :]).to(dtype), k_tile, input_precision=PRECISION)
    d_q *= read[:, None]
    d_k = tl.dot(tl.trans(q_tile), (d_qk * read[:, None]).to(dtype), d_k, input_precision=PRECISION)
    if READ:
        KK = tl.dot(k_tile, tl.trans(k_tile), input_precision=PRECISION) * k_norm[:, None] * k_norm[None, :]
        D = tl.where(later, D, 0.0)
        d_kk = tl.zeros((C, C), tl.float32)
        if DELTA:
            d_s -= tl.sum(D * KK * d_n, 1)
            d_kk -= strength[:, None] * d_n
        if PREDICTED and DECAYED:
            d_kk += d_predict
        d_kk *= D
        theta += KK * d_kk
        if PREDICTED and not DECAYED:
            d_predict *= D_before
            theta_before += KK * d_predict
            d_kk += d_predict
        weighted = (d_kk * k_norm[None, :]).to(dtype)
        d_k = tl.dot(tl.trans(k_tile), tl.trans(weighted), d_k, input_precision=PRECISION)
        weighted = (d_kk * k_norm[:, None]).to(dtype)
        d_k = tl.dot(tl.trans(k_tile), weighted, d_k, input_precision=PRECISION)
    theta = tl.where(later, theta, 0.0)
    theta_before = tl.where(i[:, None] > i[None, :] + 1, theta_before, 0.0)
    d_G += tl.sum(theta, 1) - tl.sum(theta + theta_before, 0)
    d_G_before += tl.sum(theta_before, 1)
    not_before = i[:, None] >= i[None, :]
    d_log_a = tl.sum(tl.where(not_before, d_G[:, None], 0.0) + tl.where(later, d_G_before[:, None], 0.0), 0)

    d_k = tl.trans(d_k * k_norm[None, :])
    if RESIDUAL and not SECOND:
        d_q += load_tile(dq, start, end, h, H, K, 0, C, BK).to(tl.float32)
        d_k += load_tile(dk, start, end, h, H, K, 0, C, BK).to(tl.float32)
        d_log_a += tl.load(dg + t * H + h, mask=inside, other=0.0)
    if NORMALIZE and not SECOND:
        # what is along q and k, normalizing takes out
        along = q_norm * q_norm * tl.sum(q_tile.to(tl.float32) * d_q, 1)
        d_q -= along[:, None] * q_tile.to(tl.float32)
        along = k_norm * k_norm * tl.sum(k_tile.to(tl.float32) * d_k, 1)
        d_k -= along[:, None] * k_tile.to(tl.float32)
    store_tile(dq, d_q, start, end, h, H, K, 0, C, BK)
    store_tile(dk, d_k, start, end, h, H, K, 0, C, BK)
    tl.store(dg + t * H + h, d_log_a, mask=inside)
    tl.store(d_strength + t * H + h, d_s, mask=inside)
