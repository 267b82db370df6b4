"""Of the backward pass, what goes through the states: the gradients of q and k and the rest of the gates'.

All chunks in parallel, no atomics: a program sums over all of V, block by block of K.
"""

import triton
import triton.language as tl

from rla_exp.kernels.triton.chunks import chunk_span, load_block, load_matrix, load_state, load_tile, store_tile


# one binary for all lengths: what the self-check compiled is what runs
@triton.jit(do_not_specialize=["T", "J0", "LS", "H"])
def gradients_kernel(
    q,
    k,
    do,
    rows,
    matrices,
    before_S,
    before_R,
    after_S,
    after_R,
    written_S,
    written_R,
    d_at_k_S,
    d_at_k_R,
    dq,
    dk,
    dg,
    dgamma,
    cu_seqlens,
    chunk_table,
    T,
    J0,
    LS,
    H,
    scale,
    K: tl.constexpr,
    V: tl.constexpr,
    C: tl.constexpr,
    BK: tl.constexpr,
    BV: tl.constexpr,
    DELTA: tl.constexpr,
    RESIDUAL: tl.constexpr,
    FIT: tl.constexpr,
    SUM: tl.constexpr,
    NORMALIZE: tl.constexpr,
    VARLEN: tl.constexpr,
    AT_TB: tl.constexpr,
    AT_READ_S: tl.constexpr,
    AT_PREDICT: tl.constexpr,
    NUM_MATRICES: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Takes what scores.py left; writes dq, dk and dg and completes dgamma.

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

    gates = rows + at * (8 * C)
    G = tl.load(gates + i)
    G_last = tl.load(gates + C - 1)
    k_norm = tl.load(gates + 4 * C + i)
    q_norm = tl.load(gates + 5 * C + i)
    read = q_norm * scale
    decay = tl.exp(G)
    read_decay = tl.exp(tl.load(gates + C + i)) if SUM else decay
    to_end = tl.exp(G_last - G)
    y = k_norm
    if RESIDUAL:
        y = tl.load(gates + 3 * C + i)

    read_S = tl.zeros((C,), tl.float32)  # q . d q through the states, for the gates
    read_R = tl.zeros((C,), tl.float32)
    kept = tl.zeros((C,), tl.float32)  # k . d k through the states after the chunk
    inner = 0.0  # <S, dS> + <R, dR>
    along_q = tl.zeros((C,), tl.float32)  # along q and k, what normalizing them takes out
    along_k = tl.zeros((C,), tl.float32)

    for k0 in range(0, K, BK):
        at_q_S = tl.zeros((C, BK), tl.float32)
        at_q_R = tl.zeros((C, BK), tl.float32)
        written = tl.zeros((BK, C), tl.float32)  # transposed, like all of dk
        erased = tl.zeros((BK, C), tl.float32)
        for v0 in range(0, V, BV):
            do_tile = load_tile(do, start, end, h, H, V, v0, C, BV)
            S = load_state(before_S, at, K, V, k0, v0, BK, BV)
            at_q_S = tl.dot(do_tile, tl.trans(S), at_q_S, input_precision=PRECISION)
            if DELTA or FIT:
                d_at_k = load_block(d_at_k_S, at, C, V, v0, BV)
                erased = tl.dot(S, tl.trans(d_at_k), erased, input_precision=PRECISION)
            dS = load_state(after_S, at, K, V, k0, v0, BK, BV)
            inner += tl.sum(S.to(tl.float32) * dS.to(tl.float32))
            U = load_block(written_S, at, C, V, v0, BV)
            written = tl.dot(dS, tl.trans(U), written, input_precision=PRECISION)
            if RESIDUAL:
                R = load_state(before_R, at, K, V, k0, v0, BK, BV)
                at_q_R = tl.dot(do_tile, tl.trans(R), at_q_R, input_precision=PRECISION)
                if DELTA:
                    d_at_k = load_block(d_at_k_R, at, C, V, v0, BV)
                    erased = tl.dot(R, tl.trans(d_at_k), erased, input_precision=PRECISION)
                dR = load_state(after_R, at, K, V, k0, v0, BK, BV)
                inner += tl.sum(R.to(tl.float32) * dR.to(tl.float32))
                W = load_block(written_R, at, C, V, v0, BV)
                written = tl.dot(dR, tl.trans(W), written, input_precision=PRECISION)

        q_tile = load_tile(q, start, end, h, H, K, k0, C, BK)
        at_q_S *= read_decay[:, None]
        read_S += tl.sum(q_tile.to(tl.float32) * at_q_S, 1)
        d_q = at_q_S
        if RESIDUAL:
            at_q_R *= decay[:, None]
            read_R += tl.sum(q_tile.to(tl.float32) * at_q_R, 1)
            d_q += at_q_R if SUM else y[:, None] * at_q_R

        k_tile = load_tile(k, start, end, h, H, K, k0, C, BK)
        d_qk = load_matrix(matrices, at * NUM_MATRICES + AT_READ_S, C).to(tl.float32)
        d_q += tl.dot((d_qk * k_norm[None, :]).to(dtype), k_tile, input_precision=PRECISION)
        d_q *= read[:, None]
        d_k = written * to_end[None, :]
        kept += tl.sum(tl.trans(k_tile).to(tl.float32) * d_k, 0)
        if DELTA or FIT:
            d_k += erased
        d_k = tl.dot(tl.trans(q_tile), (d_qk * read[:, None]).to(dtype), d_k, input_precision=PRECISION)
        if DELTA or FIT:
            d_kk = load_matrix(matrices, at * NUM_MATRICES + (AT_TB if DELTA else AT_PREDICT), C).to(tl.float32)
            weighted = (d_kk * k_norm[None, :]).to(dtype)
            d_k = tl.dot(tl.trans(k_tile), tl.trans(weighted), d_k, input_precision=PRECISION)
            weighted = (d_kk * k_norm[:, None]).to(dtype)
            d_k = tl.dot(tl.trans(k_tile), weighted, d_k, input_precision=PRECISION)
        d_k = tl.trans(d_k * k_norm[None, :])
        if NORMALIZE:
            along_q += tl.sum(q_tile.to(tl.float32) * d_q, 1)
            along_k += tl.sum(k_tile.to(tl.float32) * d_k, 1)
        store_tile(dq, d_q, start, end, h, H, K, k0, C, BK)
        store_tile(dk, d_k, start, end, h, H, K, k0, C, BK)

    if NORMALIZE:
        along_q *= q_norm * q_norm
        along_k *= k_norm * k_norm
        tl.debug_barrier()  # the tiles are read again by other threads
        for k0 in range(0, K, BK):
            d_q = load_tile(dq, start, end, h, H, K, k0, C, BK).to(tl.float32)
            d_q -= along_q[:, None] * load_tile(q, start, end, h, H, K, k0, C, BK).to(tl.float32)
            store_tile(dq, d_q, start, end, h, H, K, k0, C, BK)
            d_k = load_tile(dk, start, end, h, H, K, k0, C, BK).to(tl.float32)
            d_k -= along_k[:, None] * load_tile(k, start, end, h, H, K, k0, C, BK).to(tl.float32)
            store_tile(dk, d_k, start, end, h, H, K, k0, C, BK)

    d_G = tl.load(gates + 6 * C + i)
    d_G_before = tl.load(gates + 7 * C + i)
    if SUM:
        d_G_before += read * read_S
        if RESIDUAL:
            d_G += read * read_R
    else:
        d_G += read * read_S
        if RESIDUAL:
            d_G += y * read * read_R
            d_y = tl.load(dgamma + t * H + h, mask=inside, other=0.0)
            tl.store(dgamma + t * H + h, d_y + read * read_R, mask=inside)
    # the share of the sequence's last row here is exp(0) = 1 whatever the gates: left out of both sums
    last = tl.minimum(end - start, C) - 1
    kept = tl.where(i == last, 0.0, k_norm * kept)
    d_G -= kept
    d_G += tl.where(i == last, inner * tl.exp(G_last) + tl.sum(kept), 0.0)
    not_before = i[:, None] >= i[None, :]
    later = i[:, None] > i[None, :]
    d_log_a = tl.sum(tl.where(not_before, d_G[:, None], 0.0) + tl.where(later, d_G_before[:, None], 0.0), 0)
    tl.store(dg + t * H + h, d_log_a, mask=inside)
