"""What each chunk needs before the states pass over it: gates by row, and C x C matrices. All chunks in parallel.

With G_t the log decays summed up to t inside the chunk, D_ti = exp(G_t - G_i) and D^-_ti = exp(G_{t-1} - G_i):

    N = D * K K^T (i < t), N^- = D^- * K K^T (i < t), A = D * scale Q K^T (i <= t)
    T_b = (I + diag(b) N)^-1, T_y = (I + diag(y) N)^-1               (additive rule: I, not stored)
    READ_S = A_s T_b, PREDICT = N^- T_b, READ_R = A T_y               (docs/kernels.md says what each one does)

where A_s is A without its diagonal (residual off: A; output sum: D^- * scale Q K^T, i < t), and N stands for N^- where
the prediction is decayed. The inverse is forward substitution in float32 on blocks of 16 rows, then block merges: a
Neumann series loses everything on near-collinear keys.
"""

import triton
import triton.language as tl

from rla_exp.kernels.triton.chunks import chunk_span, load_tile, store_matrix

# rows of the gates' buffer [chunks, H, ROWS, C], float32; beyond a sequence's end: G as before, the others 0
ROWS = 6
# in this order: G_t, G_{t-1}, beta, gamma, 1/|k|, 1/|q| (1 where not normalized)
BETA_ROW, GAMMA_ROW = 2, 3


@triton.jit
def invert_unit_lower(L, C: tl.constexpr, PRECISION: tl.constexpr):
    """(I + L)^-1 of a strictly lower triangular L [C, C] in float32."""
    M: tl.constexpr = 16
    NB: tl.constexpr = C // M
    block = tl.arange(0, NB)
    same = block[:, None, None, None] == block[None, None, :, None]
    diagonal = tl.sum(tl.where(same, tl.reshape(L, (NB, M, NB, M)), 0.0), 2)  # [NB, M, M]
    i = tl.arange(0, M)
    row = i[None, :, None]
    column = i[None, None, :]
    X = tl.zeros((NB, M, M), tl.float32) + tl.where(row == column, 1.0, 0.0)
    for t in tl.static_range(1, M):
        l_t = tl.sum(tl.where(row == t, diagonal, 0.0), 1)
        x_t = tl.sum(l_t[:, :, None] * X, 1)
        X = tl.where(row == t, X - x_t[:, None, :], X)
    X = tl.reshape(tl.where(same, X[:, :, None, :], 0.0), (C, C))

    r = tl.arange(0, C)[:, None]
    c = tl.arange(0, C)[None, :]
    if C >= 32:
        below = tl.where((r // 32 == c // 32) & (r // 16 > c // 16), L, 0.0)
        X -= tl.dot(X, tl.dot(below, X, input_precision=PRECISION), input_precision=PRECISION)
    if C >= 64:
        below = tl.where(r // 32 > c // 32, L, 0.0)
        X -= tl.dot(X, tl.dot(below, X, input_precision=PRECISION), input_precision=PRECISION)
    return X


@triton.jit
def prepare_kernel(
    q,
    k,
    g,
    beta,
    gamma,
    rows,
    matrices,
    cu_seqlens,
    chunk_table,
    T,
    J0,
    LS,
    H,
    scale,
    K: tl.constexpr,
    C: tl.constexpr,
    BK: tl.constexpr,
    DELTA: tl.constexpr,
    RESIDUAL: tl.constexpr,
    FIT: tl.constexpr,
    SUM: tl.constexpr,
    DECAYED: tl.constexpr,
    NORMALIZE: tl.constexpr,
    VARLEN: tl.constexpr,
    AT_TB: tl.constexpr,
    AT_TY: tl.constexpr,
    AT_READ_S: tl.constexpr,
    AT_PREDICT: tl.constexpr,
    AT_READ_R: tl.constexpr,
    NUM_MATRICES: tl.constexpr,
    PRECISION: tl.constexpr,
    MERGE_PRECISION: tl.constexpr,
):
    index = tl.program_id(0)
    h = tl.program_id(1)
    n, start, end = chunk_span(index, cu_seqlens, chunk_table, T, J0, LS, C, VARLEN)
    if n < 0:
        return
    at = index.to(tl.int64) * H + h

    i = tl.arange(0, C)
    t = start + i
    inside = t < end
    log_a = tl.load(g + t * H + h, mask=inside, other=0.0)
    b = tl.load(beta + t * H + h, mask=inside, other=0.0)
    G = tl.cumsum(log_a, 0)
    # the very numbers of G one row later: D^-_{t,t-1} is then exactly 1
    G_before = tl.sum(tl.where(i[:, None] == i[None, :] + 1, G[None, :], 0.0), 1)

    q_tile = load_tile(q, start, end, h, H, K, 0, C, BK)
    k_tile = load_tile(k, start, end, h, H, K, 0, C, BK)
    k_norm = tl.full((C,), 1.0, tl.float32)
    q_norm = tl.full((C,), 1.0, tl.float32)
    if NORMALIZE:
        k_float = k_tile.to(tl.float32)
        q_float = q_tile.to(tl.float32)
        k_norm = 1.0 / tl.sqrt(tl.sum(k_float * k_float, 1) + 1e-6)
        q_norm = 1.0 / tl.sqrt(tl.sum(q_float * q_float, 1) + 1e-6)

    rows_at = rows + at * (6 * C) + i
    tl.store(rows_at, G)
    tl.store(rows_at + C, G_before)
    tl.store(rows_at + 2 * C, b)
    tl.store(rows_at + 4 * C, k_norm)
    tl.store(rows_at + 5 * C, q_norm)

    later = i[:, None] > i[None, :]
    not_before = i[:, None] >= i[None, :]
    # masked before exp: beyond the mask the exponent may overflow
    D = tl.exp(tl.where(not_before, G[:, None] - G[None, :], float("-inf")))
    D_before = tl.exp(tl.where(later, G_before[:, None] - G[None, :], float("-inf")))

    QK = tl.dot(q_tile, tl.trans(k_tile), input_precision=PRECISION)
    QK *= (q_norm * scale)[:, None] * k_norm[None, :]
    KK = tl.zeros((C, C), tl.float32)
    if DELTA or FIT:
        KK = tl.dot(k_tile, tl.trans(k_tile), input_precision=PRECISION)
        KK *= k_norm[:, None] * k_norm[None, :]
    N = tl.where(later, D, 0.0) * KK

    if RESIDUAL:
        read_s = (D_before if SUM else tl.where(later, D, 0.0)) * QK
    else:
        read_s = D * QK
    if DELTA:
        T_b = invert_unit_lower(b[:, None] * N, C, MERGE_PRECISION)
        store_matrix(matrices, T_b, at * NUM_MATRICES + AT_TB, C)
        read_s = tl.dot(read_s, T_b, input_precision=MERGE_PRECISION)
    store_matrix(matrices, read_s, at * NUM_MATRICES + AT_READ_S, C)
    if FIT:
        predict = N if DECAYED else D_before * KK
        if DELTA:
            predict = tl.dot(predict, T_b, input_precision=MERGE_PRECISION)
        store_matrix(matrices, predict, at * NUM_MATRICES + AT_PREDICT, C)
    if RESIDUAL:
        y = tl.load(gamma + t * H + h, mask=inside, other=0.0)
        tl.store(rows_at + 3 * C, y)
        read_r = D * QK
        if DELTA:
            T_y = invert_unit_lower(y[:, None] * N, C, MERGE_PRECISION)
            store_matrix(matrices, T_y, at * NUM_MATRICES + AT_TY, C)
            read_r = tl.dot(read_r, T_y, input_precision=MERGE_PRECISION)
        store_matrix(matrices, read_r, at * NUM_MATRICES + AT_READ_R, C)
