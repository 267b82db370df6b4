"""The gradients of q, k and the gates, chunk by chunk, from the states before and the gradients after each chunk.

All chunks in parallel, no atomics: a program sees all of V, block by block. What passes through R comes first, and is
added to what passes through S. A program goes over V twice, first for what stays inside the chunk, C x C, then for what
passes through the state to q and k: so that its sums fit into the registers of four warps, and two programs share a
multiprocessor.
"""

import triton
import triton.language as tl

from rla_exp.kernels.triton.chunks import chunk_span, load_block, load_inside, place_in_all, store_block
from rla_exp.kernels.triton.keys import load_keys, store_gradient


# one binary for all lengths: what the self-check compiled is what runs
@triton.jit(do_not_specialize=["T", "J0", "LS", "H"])
def gradients_kernel(
    q,
    k,
    values,
    do,
    rows,
    inverses,
    before,
    after,
    reads,
    solved,
    d_prediction,
    written,
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
    TMA: tl.constexpr,
    STAGES: tl.constexpr,
):
    """SECOND: R, with gamma: dgamma, and R's shares of dq, dk and dg. Else S: dbeta, and the sums.

    What R was fed came from S. What goes back there passes through d_prediction [chunks, H, C, V]: R leaves the
    gradient of the prediction (residual "value": of v, negated) for S. By the delta rule U passes from the first loop
    over V to the second through written [chunks, H, C, V], rounded as the C x C sums take it, so that what decays
    multiply errs alike in both.

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
    # how o reads the state: with D^- or D, without or with the diagonal, and scaled by gamma or not
    BEFORE: tl.constexpr = SUM and not SECOND
    STRICT: tl.constexpr = RESIDUAL and not SECOND
    GATED: tl.constexpr = SECOND and not SUM
    at = index * H + h
    dtype = q.dtype.element_ty
    # norms of q and k by row; their products may leave the range of float16, whose tiles are normalized instead
    NORMS: tl.constexpr = NORMALIZE and dtype != tl.float16
    ROUNDED: tl.constexpr = NORMALIZE and dtype == tl.float16
    i = tl.arange(0, C)
    gates = rows + at * (ROWS * C)

    G = tl.load(gates + i)
    G_before = tl.load(gates + C + i)
    strength = tl.load(gates + (3 if SECOND else 2) * C + i)
    k_norm = tl.full((C,), 1.0, tl.float32)
    q_norm = tl.full((C,), 1.0, tl.float32)
    if NORMS:
        k_norm = tl.load(gates + 4 * C + i)
        q_norm = tl.load(gates + 5 * C + i)
    decay = tl.exp(G)
    to_end = tl.exp(tl.load(gates + C - 1) - G) * k_norm
    if DELTA:
        inverse_at = (place_in_all(index, T, J0, LS, C, VARLEN) * H + h) * INVERSES + SECOND
        inverse = load_block(inverses, inverse_at, C, C, 0, C, C)
    if PREDICTED:
        predict = decay if DECAYED else tl.exp(G_before)

    k_tile = load_keys(k, gates + 4 * C, start, end, h, H, K, C, BK, ROUNDED)
    q_tile = load_keys(q, gates + 5 * C, start, end, h, H, K, C, BK, ROUNDED)
    # inside the chunk: outer products over the columns of V
    lam_error = tl.zeros((C,), tl.float32)
    lam_held = tl.zeros((C,), tl.float32)
    back_held = tl.zeros((C,), tl.float32)
    d_qk = tl.zeros((C, C), tl.float32)
    d_n = tl.zeros((C, C), tl.float32)
    d_predict = tl.zeros((C, C), tl.float32)
    for v0 in tl.range(0, V, BV, num_stages=STAGES):
        do_tile = load_inside(do, start, end, h, H, V, v0, C, BV, TMA)
        error = load_inside(values, start, end, h, H, V, v0, C, BV, TMA).to(tl.float32)
        low_lam = load_block(solved, at, C, V, v0, C, BV, TMA)
        lam = low_lam.to(tl.float32)
        if SECOND:
            # R was fed v, or r = clip(v - P), which the clip lets through or not
            back = -strength[:, None] * lam
            if CLIPPED:
                back = tl.where(tl.abs(error) > bound, 0.0, back)
                error = tl.clamp(error, -bound, bound, propagate_nan=tl.PropagateNan.ALL)
            store_block(d_prediction, back, at, C, V, v0, C, BV)
        if READ:
            at_k = load_block(reads, at, C, V, v0, C, BV, TMA).to(tl.float32)
        if DELTA:
            error -= decay[:, None] * at_k
            lam_held += tl.sum(lam * at_k, 1)
        lam_error += tl.sum(lam * error, 1)
        U = strength[:, None] * error
        if PREDICTED:
            low_back = load_block(d_prediction, at, C, V, v0, C, BV, TMA)
            back = low_back.to(tl.float32)
            back_held += tl.sum(back * at_k, 1)
        if DELTA:
            U = tl.dot(inverse, U.to(dtype), input_precision=PRECISION)
            store_block(written, U, at, C, V, v0, C, BV)
        low_U = tl.trans(U.to(dtype))
        if DELTA:
            d_n = tl.dot(low_lam, low_U, d_n, input_precision=PRECISION)
        if PREDICTED:
            d_predict = tl.dot(low_back, low_U, d_predict, input_precision=PRECISION)
        d_qk = tl.dot(do_tile, low_U, d_qk, input_precision=PRECISION)

    # D is 1 on the diagonal, D^- beside it, whatever the gates: those entries are left out of the gates' sums. Where D
    # without its diagonal is needed beside D^-, it is D^- times a row's own decay
    later = i[:, None] > i[None, :]
    if STRICT:
        own = tl.exp(G - G_before)
        exponents = tl.where(later, G_before[:, None] - G[None, :], float("-inf"))
    else:
        own = tl.full((C,), 1.0, tl.float32)
        exponents = tl.where(i[:, None] >= i[None, :], G[:, None] - G[None, :], float("-inf"))
    # exp, but results below float32's normal numbers may be zeros: that saves instructions
    D = tl.exp2(exponents * 1.4426950408889634) * k_norm[None, :]
    count = tl.minimum(end - start, C).to(tl.int32)
    inside = i < count
    # nothing is read beyond the sequence's end, where tiles repeat the last row
    read = tl.where(inside, q_norm * scale, 0.0)
    d_s = lam_error
    d_G = -decay * strength * lam_held
    d_G_before = tl.zeros((C,), tl.float32)
    if PREDICTED:
        if DECAYED:
            d_G += predict * back_held
        else:
            d_G_before += predict * back_held
    theta = tl.zeros((C, C), tl.float32)
    if READ:
        KK = tl.dot(k_tile, tl.trans(k_tile), input_precision=PRECISION) * D
        d_kk = tl.zeros((C, C), tl.float32)
        if DELTA:
            d_n *= (own * k_norm)[:, None]
            if not STRICT:
                d_n = tl.where(later, d_n, 0.0)
            share = tl.sum(KK * d_n, 1)
            d_s -= share
            d_G -= strength * share
            d_kk -= strength[:, None] * d_n
            theta += KK * d_kk
        if PREDICTED:
            if DECAYED:
                d_predict *= (own * k_norm)[:, None]
                d_theta = KK * d_predict
                d_G += tl.sum(d_theta, 1)
            else:
                d_predict *= k_norm[:, None]
                d_theta = tl.where(i[:, None] > i[None, :] + 1, KK * d_predict, 0.0)
                d_G_before += tl.sum(d_theta, 1)
            theta += d_theta
            d_kk += d_predict
        low_kk = (d_kk * D).to(dtype)
    d_qk *= D
    d_theta = tl.dot(q_tile, tl.trans(k_tile), input_precision=PRECISION) * d_qk
    if BEFORE:
        reading = read
        d_theta = tl.where(i[:, None] > i[None, :] + 1, d_theta, 0.0) * reading[:, None]
        d_G_before += tl.sum(d_theta, 1)
    else:
        reading = read * own
        if GATED:
            d_s += read * tl.sum(d_theta, 1)
            reading *= strength
        if not STRICT:
            d_theta = tl.where(later, d_theta, 0.0)
        d_theta *= reading[:, None]
        d_G += tl.sum(d_theta, 1)
    theta += d_theta
    d_G -= tl.sum(theta, 0)
    low_qk = (d_qk * reading[:, None]).to(dtype)
    d_k = tl.dot(tl.trans(q_tile), low_qk, input_precision=PRECISION)
    if READ:
        d_k = tl.dot(tl.trans(k_tile), low_kk, d_k, input_precision=PRECISION)
        d_k = tl.dot(tl.trans(k_tile), tl.trans(low_kk), d_k, input_precision=PRECISION)

    # through the state
    tl.debug_barrier()
    kept = tl.zeros((C,), tl.float32)  # k . dk through what the state gets
    inner = tl.zeros((BK,), tl.float32)  # <S, dS> by rows
    d_q = tl.zeros((C, BK), tl.float32)
    for v0 in tl.range(0, V, BV, num_stages=STAGES):
        do_tile = load_inside(do, start, end, h, H, V, v0, C, BV, TMA)
        S = load_block(before, at, K, V, v0, BK, BV, TMA)
        dS = load_block(after, at, K, V, v0, BK, BV, TMA)
        if DELTA:
            gotten = to_end[:, None] * load_block(written, at, C, V, v0, C, BV).to(tl.float32)
        else:
            U = load_inside(values, start, end, h, H, V, v0, C, BV, TMA).to(tl.float32)
            if SECOND and CLIPPED:
                U = tl.clamp(U, -bound, bound, propagate_nan=tl.PropagateNan.ALL)
            gotten = (to_end * strength)[:, None] * U
        low_gotten = tl.trans(gotten.to(dtype))
        inner += tl.sum(S.to(tl.float32) * dS.to(tl.float32), 1)
        if READ:
            d_held = tl.zeros((C, BV), tl.float32)
            if DELTA:
                lam = load_block(solved, at, C, V, v0, C, BV, TMA).to(tl.float32)
                d_held -= (decay * strength * k_norm)[:, None] * lam
            if PREDICTED:
                back = load_block(d_prediction, at, C, V, v0, C, BV, TMA).to(tl.float32)
                d_held += (predict * k_norm)[:, None] * back
            d_k = tl.dot(S, tl.trans(d_held.to(dtype)), d_k, input_precision=PRECISION)
        d_q = tl.dot(do_tile, tl.trans(S), d_q, input_precision=PRECISION)
        d_k = tl.dot(dS, low_gotten, d_k, input_precision=PRECISION)
        # by itself: what it adds to d_k may be far below the rounding of the rest. The last product, for it is waited
        # for: Triton leaves others running into the loads of a later turn, which take the place of what they read
        kept += tl.sum(gotten * tl.dot(k_tile, dS, input_precision=PRECISION), 1)

    ADD: tl.constexpr = RESIDUAL and not SECOND
    PROJECT: tl.constexpr = NORMALIZE and not SECOND
    store_gradient(dk, tl.trans(d_k), k, gates + 4 * C, start, end, h, H, K, C, BK, ROUNDED, ADD, PROJECT)

    k_tile = load_keys(k, gates + 4 * C, start, end, h, H, K, C, BK, ROUNDED)
    q_tile = load_keys(q, gates + 5 * C, start, end, h, H, K, C, BK, ROUNDED)
    read *= tl.exp(G_before) if BEFORE else decay
    # q . dq through the state
    along = read * tl.sum(q_tile.to(tl.float32) * d_q, 1)
    if GATED:
        d_s += along
        along *= strength
        read *= strength
    if BEFORE:
        d_G_before += along
    else:
        d_G += along
    d_q *= read[:, None]
    d_q = tl.dot(low_qk, k_tile, d_q, input_precision=PRECISION)
    store_gradient(dq, d_q, q, gates + 5 * C, start, end, h, H, K, C, BK, ROUNDED, ADD, PROJECT)

    # the share of the sequence's last row in the state is exp(0) = 1 whatever the gates, and so is exp(G_{t-1}) of the
    # first one: left out of the sums
    kept = tl.where(i == count - 1, 0.0, kept)
    d_G_before = tl.where(i == 0, 0.0, d_G_before)
    # G_t is the sum of the decays up to t, and the state gets all of them
    d_log_a = tl.cumsum(d_G + d_G_before - kept, 0, reverse=True) - d_G_before
    d_log_a += tl.sum(kept) + tl.sum(inner) * tl.exp(tl.load(gates + C - 1))
    first = start * H + h
    if ADD:
        d_log_a += tl.load(dg + first + i * H, mask=inside, other=0.0)
    tl.store(dg + first + i * H, d_log_a, mask=inside)
    tl.store(d_strength + first + i * H, d_s, mask=inside)
