"""The delta rule's triangular systems of each chunk, inverted. All chunks in parallel.

With G_t the log decays summed up to t inside the chunk and D_ti = exp(G_t - G_i):

    N = D * K K^T (i < t), T_b = (I + diag(b) N)^-1, T_y = (I + diag(y) N)^-1

A chunk is taken apart into blocks of M tokens, which a warp multiplies without waiting for others. Blocks on the
diagonal are inverted by halves, from pairs of rows on, and from them the rest row by row: a Neumann series loses
everything on near-collinear keys. Blocks are in tuples; of a symmetric matrix they are (0, 0), (1, 0), (1, 1), (2, 0)
and so on, the one of rows a and columns b <= a the a (a + 1) / 2 + b-th.
"""

import triton
import triton.language as tl

from rla_exp.kernels.triton.chunks import chunk_span, load_gate, load_tile, lost, summed_decays

# the compiler unpacks no tuples, and they grow
# ruff: noqa: RUF005
# mypy: disable-error-code="assignment, var-annotated"


@triton.jit
def block_scores(
    k,
    start,
    end,
    h,
    H,
    K: tl.constexpr,
    C: tl.constexpr,
    BD: tl.constexpr,
    M: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """K K^T of the chunk's tokens, each block transposed; by BD columns of K at a time."""
    scores = ()
    for _ in tl.static_range(0, C // M * (C // M + 1) // 2):
        scores = scores + (tl.zeros((M, M), tl.float32),)
    # in a loop, for loads that run ahead: unrolled, each would be waited for
    for d in tl.range(0, K, BD):
        tiles = ()
        for a in tl.static_range(0, C // M):
            tiles = tiles + (load_tile(k, start + a * M, end, h, H, K, d, M, BD),)
        sums = ()
        for a in tl.static_range(0, C // M):
            for b in tl.static_range(0, a + 1):
                at = scores[a * (a + 1) // 2 + b]
                sums = sums + (tl.dot(tiles[b], tl.trans(tiles[a]), at, input_precision=PRECISION),)
        scores = sums
    return scores


@triton.jit
def block_decays(g, start, end, h, H, M: tl.constexpr):
    """The block's log decays summed up to each token [M], and all of them: the last of these numbers."""
    i = tl.arange(0, M)
    G = summed_decays(g, start, end, h, H, M)
    return G, tl.sum(tl.where(i == M - 1, G, 0.0), 0)


@triton.jit
def passing(reach, totals, a: tl.constexpr):
    """By block of keys before the a-th, a factor of the a-th's readers, times the decays of the blocks between."""
    reaches = ()
    for b in tl.static_range(0, a):
        between = 0.0
        for passed in tl.static_range(b + 1, a):
            between += totals[passed]
        reaches = reaches + (reach * tl.exp(between),)
    return reaches


@triton.jit
def product(x, y, sum=None):
    """x y in float32, added to a sum."""
    return tl.dot(x, y, sum, input_precision="ieee")


@triton.jit
def low(x, MERGE: tl.constexpr):
    """x as the operand on the right whose transposed it is."""
    return tl.trans(x).to(MERGE)


@triton.jit
def merge_pairs(X, X_up, L, L_up, m: tl.constexpr, M: tl.constexpr, MERGE: tl.constexpr):
    """From the inverses of blocks of m rows those of 2 m rows, and their transposed, for negative L."""
    r = tl.arange(0, M)[:, None]
    c = tl.arange(0, M)[None, :]
    together = r // (2 * m) == c // (2 * m)
    below = tl.where(together & (r // m > c // m), L, 0.0)
    above = tl.where(together & (r // m < c // m), L_up, 0.0)
    merged = product(product(X.to(MERGE), low(above, MERGE)).to(MERGE), low(X_up, MERGE), X)
    return merged, product(product(X_up.to(MERGE), low(below, MERGE)).to(MERGE), low(X, MERGE), X_up)


@triton.jit
def invert_block(N, strength, M: tl.constexpr, MERGE: tl.constexpr):
    """(I + L)^-1 [M, M] of L = diag(strength) N (i < t), and its transposed; N is symmetric, M is 16."""
    r = tl.arange(0, M)[:, None]
    c = tl.arange(0, M)[None, :]
    L = N * -strength[:, None]
    L_up = N * -strength[None, :]
    pair = r // 2 == c // 2
    X = tl.where(r == c, 1.0, tl.where(pair & (r > c), L, 0.0))
    X_up = tl.where(r == c, 1.0, tl.where(pair & (r < c), L_up, 0.0))
    for level in tl.static_range(1, 4):
        X, X_up = merge_pairs(X, X_up, L, L_up, 2**level, M, MERGE)
    return X, X_up


@triton.jit
def store_rounded(inverse, rest, X, places, REST: tl.constexpr):
    """X at places of the inverse, and what rounding took of it at those of the rest."""
    rounded = X.to(inverse.dtype.element_ty)
    tl.store(inverse + places, rounded)
    if REST:
        tl.store(rest + places, lost(X, rounded))


@triton.jit
def solve(inverse, rest, L, Ns, strengths, C: tl.constexpr, M: tl.constexpr, MERGE: tl.constexpr, REST: tl.constexpr):
    """Stores (I + L)^-1 [C, C], of the blocks of -L left of the diagonal and of N on it."""
    place = tl.arange(0, M)[:, None] * C + tl.arange(0, M)[None, :]
    inverted = ()
    for a in tl.static_range(0, C // M):
        row = a * M * C + place
        X, X_up = invert_block(Ns[a], strengths[a], M, MERGE)
        inverted = inverted + (low(X_up, MERGE),)
        store_rounded(inverse, rest, X, row + a * M, REST)
        # T (I + L) = I: from right to left, each block from those found
        found = (X.to(MERGE),)
        for b in tl.static_range(a - 1, -1, -1):
            sum = product(found[0], L[a * (a - 1) // 2 + b])
            for c in tl.static_range(a - 1, b, -1):
                sum = product(found[a - c], L[c * (c - 1) // 2 + b], sum)
            X = product(sum.to(MERGE), inverted[b])
            found = found + (X.to(MERGE),)
            store_rounded(inverse, rest, X, row + b * M, REST)
        for b in tl.static_range(a + 1, C // M):
            store_rounded(inverse, rest, tl.zeros((M, M), tl.float32), row + b * M, REST)


# one binary for all lengths: what the self-check compiled is what runs
@triton.jit(do_not_specialize=["T", "J0", "LS", "H"])
def inverses_kernel(
    k,
    g,
    beta,
    gamma,
    inverses,
    rest,
    cu_seqlens,
    chunk_table,
    T,
    J0,
    LS,
    H,
    K: tl.constexpr,
    C: tl.constexpr,
    RESIDUAL: tl.constexpr,
    NORMALIZE: tl.constexpr,
    VARLEN: tl.constexpr,
    PRECISION: tl.constexpr,
    MERGE: tl.constexpr,
    M: tl.constexpr,
    BD: tl.constexpr,
    REST: tl.constexpr,
):
    """T_b, and with a residual T_y, into inverses [chunks, H, 1 or 2, C, C].

    REST: what rounding takes of T_b, rounded likewise, into rest [chunks, H, C, C].
    """
    index = tl.program_id(0)
    h = tl.program_id(1)
    n, start, end = chunk_span(index, cu_seqlens, chunk_table, T, J0, LS, C, VARLEN)
    if n < 0:
        return
    INVERSES: tl.constexpr = 2 if RESIDUAL else 1
    at = index.to(tl.int64) * H + h
    own = inverses + at * (INVERSES * C * C)
    r = tl.arange(0, M)[:, None]
    c = tl.arange(0, M)[None, :]

    scores = block_scores(k, start, end, h, H, K, C, BD, M, PRECISION)
    Ns = ()
    bs = ()
    ys = ()
    L_b = ()
    L_y = ()
    # by block: decays from a key to the block's end, and of the whole block
    ends = ()
    totals = ()
    for a in tl.static_range(0, C // M):
        G, total = block_decays(g, start + a * M, end, h, H, M)
        b = load_gate(beta, start + a * M, end, h, H, M)
        bs = bs + (b,)
        if RESIDUAL:
            y = load_gate(gamma, start + a * M, end, h, H, M)
            ys = ys + (y,)
        N = scores[a * (a + 1) // 2 + a]
        norm = tl.full((M,), 1.0, tl.float32)
        if NORMALIZE:
            norm = 1.0 / tl.sqrt(tl.sum(tl.where(r == c, N, 0.0), 0) + 1e-6)
        # no exponent is positive: a decay between two blocks is that to the one's end times those from there on
        reaches = passing(tl.exp(G) * -norm, totals, a)
        for before in tl.static_range(0, a):
            score = scores[a * (a + 1) // 2 + before] * ends[before][:, None]
            L_b = L_b + (low(score * (reaches[before] * b)[None, :], MERGE),)
            if RESIDUAL:
                L_y = L_y + (low(score * (reaches[before] * y)[None, :], MERGE),)
        ends = ends + (tl.exp(total - G) * norm,)
        totals = totals + (total,)
        Ns = Ns + (N * tl.exp(-tl.abs(G[:, None] - G[None, :])) * norm[:, None] * norm[None, :],)
    # R's first: the other way round more registers spill
    if RESIDUAL:
        solve(own + C * C, None, L_y, Ns, ys, C, M, MERGE, False)
    solve(own, rest + at * (C * C) if REST else None, L_b, Ns, bs, C, M, MERGE, REST)
