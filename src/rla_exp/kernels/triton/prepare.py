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
ROWS = 8
# in this order: G_t, G_{t-1}, beta, gamma, 1/|k|, 1/|q| (1 where not normalized), and two that the backward pass fills
BETA_ROW, GAMMA_ROW = 2, 3


@triton.jit
def invert_diagonal(scratch, INVERSES: tl.constexpr, C: tl.constexpr, M: tl.constexpr):
    """Of INVERSES strictly lower triangular L, each [C, M] with its diagonal blocks one below the other: (I + L)^-1.

    In place in scratch, float32, by forward substitution: a lane takes a column of a block and keeps it in registers.
    """
    lane = tl.arange(0, INVERSES * C)
    column = lane % M
    block = scratch + (lane // M) * (M * M)
    X = ()
    for i in tl.static_range(0, M):
        x = tl.where(column == i, 1.0, 0.0)
        for j in tl.static_range(0, i):
            x -= tl.load(block + i * M + j) * X[j]
        X = X + (x,)  # type: ignore[assignment]  # noqa: RUF005 (the compiler unpacks no tuples)
    tl.debug_barrier()  # every lane has read L
    for i in tl.static_range(0, M):
        tl.store(block + i * M + column, X[i])


@triton.jit
def merge_blocks(L, scratch, which: tl.constexpr, C: tl.constexpr, M: tl.constexpr, MERGE: tl.constexpr):
    """(I + L)^-1 [C, C] from the inverses of its diagonal blocks of M rows; C is 2 M or 4 M."""
    r = tl.arange(0, C)[:, None]
    c = tl.arange(0, C)[None, :]
    X = tl.load(scratch + which * (C * M) + r * M + c % M, mask=r // M == c // M, other=0.0)
    below = tl.where((r // M > c // M) & (r // (2 * M) == c // (2 * M)), L, 0.0)
    X -= tl.dot(X, tl.dot(below, X, input_precision=MERGE), input_precision=MERGE)
    if C > 2 * M:
        below = tl.where(r // (2 * M) > c // (2 * M), L, 0.0)
        X -= tl.dot(X, tl.dot(below, X, input_precision=MERGE), input_precision=MERGE)
    return X


# one binary for all lengths: what the self-check compiled is what runs
@triton.jit(do_not_specialize=["T", "J0", "LS", "H"])
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
    MERGE: tl.constexpr,
    M: tl.constexpr,
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

    rows_at = rows + at * (8 * C) + i
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

    read_r = D * QK
    if RESIDUAL:
        read_s = (D_before if SUM else tl.where(later, D, 0.0)) * QK
        y = tl.load(gamma + t * H + h, mask=inside, other=0.0)
        tl.store(rows_at + 3 * C, y)
    else:
        read_s = read_r
    if FIT:
        predict = N if DECAYED else D_before * KK
    own = matrices + at * (NUM_MATRICES * C * C)
    if DELTA:
        # the chunk's own matrices are written last: until then their place is scratch
        scratch = own.to(tl.pointer_type(tl.float32))
        r = i[:, None]
        c = i[None, :]
        place = r * M + c % M
        tl.store(scratch + place, b[:, None] * N, mask=r // M == c // M)
        if RESIDUAL:
            tl.store(scratch + C * M + place, y[:, None] * N, mask=r // M == c // M)
        tl.debug_barrier()
        invert_diagonal(scratch, 2 if RESIDUAL else 1, C, M)
        tl.debug_barrier()
        T_b = merge_blocks(b[:, None] * N, scratch, 0, C, M, MERGE)
        if RESIDUAL:
            T_y = merge_blocks(y[:, None] * N, scratch, 1, C, M, MERGE)
        tl.debug_barrier()
        store_matrix(own, T_b, AT_TB, C)
        read_s = tl.dot(read_s, T_b, input_precision=MERGE)
        if FIT:
            predict = tl.dot(predict, T_b, input_precision=MERGE)
        if RESIDUAL:
            store_matrix(own, T_y, AT_TY, C)
            read_r = tl.dot(read_r, T_y, input_precision=MERGE)
    store_matrix(own, read_s, AT_READ_S, C)
    if FIT:
        store_matrix(own, predict, AT_PREDICT, C)
    if RESIDUAL:
        store_matrix(own, read_r, AT_READ_R, C)
