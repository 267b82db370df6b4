"""What each chunk needs before the states pass over it: gates by row, and C x C matrices. All chunks in parallel.

With G_t the log decays summed up to t inside the chunk, D_ti = exp(G_t - G_i) and D^-_ti = exp(G_{t-1} - G_i):

    N = D * K K^T (i < t), N^- = D^- * K K^T (i < t), A = D * scale Q K^T (i <= t)
    READ_S = A_s T_b, PREDICT = N^- T_b, READ_R = A T_y               (docs/kernels.md says what each one does)

where A_s is A without its diagonal (residual off: A; output sum: D^- * scale Q K^T, i < t), N stands for N^- where the
prediction is decayed, and T_b, T_y come from inverses.py (additive rule: I). Everything here is made and stored
transposed, as K Q^T and T^T A^T: what is multiplied from the left then comes from memory, for an accumulator as a left
operand is what some compilers get wrong on Hopper.

EXACT: PREDICT with what rounding takes of its operands; additive rule: what rounding takes of it itself goes into left
[chunks, H, C, C]. REST: what rounding took of T_b is in rest [chunks, H, C, C].
"""

import triton
import triton.language as tl

from rla_exp.kernels.triton.chunks import (
    chunk_span,
    load_block,
    load_tile,
    lost,
    place_in_all,
    store_block,
)
from rla_exp.kernels.triton.rows import norms, store_rows


@triton.jit
def store_product(matrices, at, transposed, inverse, HAS_INVERSE: tl.constexpr, C: tl.constexpr, PREC: tl.constexpr):
    """A T at a place, transposed, from A^T and T."""
    if HAS_INVERSE:
        low = transposed.to(matrices.dtype.element_ty)
        transposed = tl.dot(tl.trans(inverse), low, input_precision=PREC)
    store_block(matrices, transposed, at, C, C, 0, C, C)


# one binary for all lengths: what the self-check compiled is what runs
@triton.jit(do_not_specialize=["T", "J0", "LS", "H"])
def prepare_kernel(
    q,
    k,
    g,
    beta,
    gamma,
    inverses,
    rest,
    rows,
    matrices,
    left,
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
    ROWS: tl.constexpr,
    DELTA: tl.constexpr,
    RESIDUAL: tl.constexpr,
    FIT: tl.constexpr,
    SUM: tl.constexpr,
    DECAYED: tl.constexpr,
    NORMALIZE: tl.constexpr,
    VARLEN: tl.constexpr,
    AT_READ_S: tl.constexpr,
    AT_PREDICT: tl.constexpr,
    AT_READ_R: tl.constexpr,
    NUM_MATRICES: tl.constexpr,
    EXACT: tl.constexpr,
    REST: tl.constexpr,
    PRECISION: tl.constexpr,
):
    index = tl.program_id(0)
    h = tl.program_id(1)
    n, start, end = chunk_span(index, cu_seqlens, chunk_table, T, J0, LS, C, VARLEN)
    if n < 0:
        return
    at = index.to(tl.int64) * H + h
    INVERSES: tl.constexpr = 2 if RESIDUAL else 1

    i = tl.arange(0, C)
    q_tile = load_tile(q, start, end, h, H, K, 0, C, BK)
    k_tile = load_tile(k, start, end, h, H, K, 0, C, BK)
    k_norm = norms(k_tile, C, NORMALIZE)
    q_norm = norms(q_tile, C, NORMALIZE)
    own = rows + at * (ROWS * C)
    G, G_before = store_rows(own, g, beta, gamma, k_norm, q_norm, start, end, h, H, scale, C, RESIDUAL, SUM, DECAYED)

    T_b = tl.zeros((C, C), matrices.dtype.element_ty)
    T_y = T_b
    if DELTA:
        place = place_in_all(index, T, J0, LS, C, VARLEN).to(tl.int64) * H + h
        T_b = load_block(inverses, place * INVERSES, C, C, 0, C, C)
        if REST:
            T_rest = load_block(rest, place, C, C, 0, C, C)
        if RESIDUAL:
            T_y = load_block(inverses, place * INVERSES + 1, C, C, 0, C, C)
    # rows: the key's token, columns: the reader's, which comes later
    later = i[:, None] < i[None, :]
    # masked before exp: beyond the mask the exponent may overflow
    if (FIT and not DECAYED) or (RESIDUAL and SUM):
        D_before = tl.exp(tl.where(later, G_before[None, :] - G[:, None], float("-inf")))
        # and the reader's own decay
        D_later = D_before * tl.exp(G - G_before)[None, :]
        D = tl.where(i[:, None] == i[None, :], 1.0, D_later)
    else:
        D = tl.exp(tl.where(i[:, None] <= i[None, :], G[None, :] - G[:, None], float("-inf")))
        D_later = tl.where(later, D, 0.0)

    at *= NUM_MATRICES
    if FIT:
        KK = tl.dot(k_tile, tl.trans(k_tile), input_precision=PRECISION)
        KK *= k_norm[:, None] * k_norm[None, :]
        predict = (D_later if DECAYED else D_before) * KK
        low = predict.to(matrices.dtype.element_ty)
        if DELTA:
            # with near-collinear keys an error of either operand would stay in all later rows
            sum = tl.zeros((C, C), tl.float32)
            if EXACT:
                sum = tl.dot(tl.trans(T_b), lost(predict, low), input_precision=PRECISION)
            if REST:
                sum = tl.dot(tl.trans(T_rest), low, sum, input_precision=PRECISION)
            predict = tl.dot(tl.trans(T_b), low, sum, input_precision=PRECISION)
        elif EXACT:
            store_block(left, lost(predict, low), index.to(tl.int64) * H + h, C, C, 0, C, C)
        store_block(matrices, predict, at + AT_PREDICT, C, C, 0, C, C)
    KQ = tl.dot(k_tile, tl.trans(q_tile), input_precision=PRECISION)
    KQ *= k_norm[:, None] * (q_norm * scale)[None, :]
    read_s = D * KQ
    if RESIDUAL:
        store_product(matrices, at + AT_READ_R, read_s, T_y, DELTA, C, PRECISION)
        read_s = (D_before if SUM else D_later) * KQ
    store_product(matrices, at + AT_READ_S, read_s, T_b, DELTA, C, PRECISION)
