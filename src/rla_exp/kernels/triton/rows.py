"""The gates of a chunk by row, as all kernels scale with them (plan.ROWS)."""

import triton
import triton.language as tl

from rla_exp.kernels.triton.chunks import chunk_span, inverse_norms, load_gate, load_tile, summed_decays


@triton.jit
def norms(tile, C: tl.constexpr, NORMALIZE: tl.constexpr):
    """1 / |x| [C] of a tile's rows, or 1 where they stay as they are."""
    norm = tl.full((C,), 1.0, tl.float32)
    if NORMALIZE:
        norm = inverse_norms(tile)
    return norm


@triton.jit
def store_rows(
    rows,
    g,
    beta,
    gamma,
    k_norm,
    q_norm,
    start,
    end,
    h,
    H,
    scale,
    C: tl.constexpr,
    RESIDUAL: tl.constexpr,
    SUM: tl.constexpr,
    DECAYED: tl.constexpr,
):
    """Into rows [ROWS, C] of a chunk; returns G_t and G_{t-1} [C]."""
    i = tl.arange(0, C)
    G = summed_decays(g, start, end, h, H, C)
    # the very numbers of G one row later: D^-_{t,t-1} is then exactly 1
    G_before = tl.where(i == 0, 0.0, tl.gather(G, tl.maximum(i - 1, 0), 0))
    here = rows + i
    tl.store(here, G)
    tl.store(here + C, G_before)
    tl.store(here + 2 * C, load_gate(beta, start, end, h, H, C))
    if RESIDUAL:
        tl.store(here + 3 * C, load_gate(gamma, start, end, h, H, C))
    tl.store(here + 4 * C, k_norm)
    tl.store(here + 5 * C, q_norm)
    decay = tl.exp(G)
    decay_before = tl.exp(G_before)
    # past the end G stays, so the last entry is that of the sequence's last token
    G_last = tl.sum(tl.where(i == C - 1, G, 0.0), 0)
    tl.store(here + 6 * C, decay * k_norm)
    tl.store(here + 7 * C, (decay if DECAYED else decay_before) * k_norm)
    tl.store(here + 8 * C, tl.exp(G_last - G) * k_norm)
    tl.store(here + 9 * C, scale * (decay_before if SUM else decay) * q_norm)
    tl.store(here + 10 * C, scale * decay * q_norm)
    tl.store(here + 11 * C, tl.exp(G_last) + tl.zeros((C,), tl.float32))
    return G, G_before


# one binary for all lengths: what the self-check compiled is what runs
@triton.jit(do_not_specialize=["T", "J0", "LS", "H"])
def rows_kernel(
    q,
    k,
    g,
    beta,
    gamma,
    rows,
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
    RESIDUAL: tl.constexpr,
    SUM: tl.constexpr,
    DECAYED: tl.constexpr,
    NORMALIZE: tl.constexpr,
    VARLEN: tl.constexpr,
):
    """Of every chunk, into rows [chunks, H, ROWS, C]: what `prepare` leaves beside its matrices."""
    index = tl.program_id(0)
    h = tl.program_id(1)
    n, start, end = chunk_span(index, cu_seqlens, chunk_table, T, J0, LS, C, VARLEN)
    if n < 0:
        return
    k_norm = norms(load_tile(k, start, end, h, H, K, 0, C, BK), C, NORMALIZE)
    q_norm = norms(load_tile(q, start, end, h, H, K, 0, C, BK), C, NORMALIZE)
    own = rows + (index.to(tl.int64) * H + h) * (ROWS * C)
    store_rows(own, g, beta, gamma, k_norm, q_norm, start, end, h, H, scale, C, RESIDUAL, SUM, DECAYED)
