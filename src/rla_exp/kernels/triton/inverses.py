"""The delta rule's triangular systems of each chunk, inverted. All chunks in parallel.

With G_t the log decays summed up to t inside the chunk and D_ti = exp(G_t - G_i):

    N = D * K K^T (i < t), T_b = (I + diag(b) N)^-1, T_y = (I + diag(y) N)^-1

Forward substitution in float32 on blocks of 16 rows, then block merges: a Neumann series loses everything on
near-collinear keys.
"""

import triton
import triton.language as tl

from rla_exp.kernels.triton.chunks import chunk_span, inverse_norms, load_tile, store_block, summed_decays


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
    """(I + L)^-1 [C, C] from the inverses of its diagonal blocks of M rows; C is 2 M or 4 M.

    MERGE: dtype of the products' operands; float32 multiplies exactly.
    """
    r = tl.arange(0, C)[:, None]
    c = tl.arange(0, C)[None, :]
    X = tl.load(scratch + which * (C * M) + r * M + c % M, mask=r // M == c // M, other=0.0)
    below = tl.where((r // M > c // M) & (r // (2 * M) == c // (2 * M)), L, 0.0)
    X -= product(X, product(below, X, MERGE), MERGE)
    if C > 2 * M:
        below = tl.where(r // (2 * M) > c // (2 * M), L, 0.0)
        X -= product(X, product(below, X, MERGE), MERGE)
    return X


@triton.jit
def product(x, y, DTYPE: tl.constexpr):
    """x y in float32, of operands rounded to DTYPE."""
    return tl.dot(x.to(DTYPE), y.to(DTYPE), input_precision="ieee")


# one binary for all lengths: what the self-check compiled is what runs
@triton.jit(do_not_specialize=["T", "J0", "LS", "H"])
def inverses_kernel(
    k,
    g,
    beta,
    gamma,
    inverses,
    cu_seqlens,
    chunk_table,
    T,
    J0,
    LS,
    H,
    K: tl.constexpr,
    C: tl.constexpr,
    BK: tl.constexpr,
    RESIDUAL: tl.constexpr,
    NORMALIZE: tl.constexpr,
    VARLEN: tl.constexpr,
    PRECISION: tl.constexpr,
    MERGE: tl.constexpr,
    M: tl.constexpr,
):
    """T_b, and with a residual T_y, into inverses [chunks, H, 1 or 2, C, C]."""
    index = tl.program_id(0)
    h = tl.program_id(1)
    n, start, end = chunk_span(index, cu_seqlens, chunk_table, T, J0, LS, C, VARLEN)
    if n < 0:
        return
    INVERSES: tl.constexpr = 2 if RESIDUAL else 1
    own = inverses + (index.to(tl.int64) * H + h) * (INVERSES * C * C)

    i = tl.arange(0, C)
    t = start + i
    inside = t < end
    G = summed_decays(g, t, inside, h, H)
    k_tile = load_tile(k, start, end, h, H, K, 0, C, BK)
    N = tl.dot(k_tile, tl.trans(k_tile), input_precision=PRECISION)
    if NORMALIZE:
        k_norm = inverse_norms(k_tile)
        N *= k_norm[:, None] * k_norm[None, :]
    # masked before exp: beyond the mask the exponent may overflow
    N *= tl.exp(tl.where(i[:, None] > i[None, :], G[:, None] - G[None, :], float("-inf")))
    b = tl.load(beta + t * H + h, mask=inside, other=0.0)

    # the inverses are written last: until then their place is scratch
    scratch = own.to(tl.pointer_type(tl.float32))
    r = i[:, None]
    c = i[None, :]
    place = r * M + c % M
    tl.store(scratch + place, b[:, None] * N, mask=r // M == c // M)
    if RESIDUAL:
        y = tl.load(gamma + t * H + h, mask=inside, other=0.0)
        tl.store(scratch + C * M + place, y[:, None] * N, mask=r // M == c // M)
    tl.debug_barrier()
    invert_diagonal(scratch, INVERSES, C, M)
    tl.debug_barrier()
    T_b = merge_blocks(b[:, None] * N, scratch, 0, C, M, MERGE)
    if RESIDUAL:
        T_y = merge_blocks(y[:, None] * N, scratch, 1, C, M, MERGE)
        tl.debug_barrier()
        store_block(own, T_y, 1, C, C, 0, C, C)
    else:
        tl.debug_barrier()
    store_block(own, T_b, 0, C, C, 0, C, C)
