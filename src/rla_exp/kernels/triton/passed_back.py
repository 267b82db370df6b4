"""What goes back from R to the prediction that it was fed, where the gradients' kernel does not come between."""

import triton
import triton.language as tl

from rla_exp.kernels.triton.chunks import chunk_span, load_block, load_tile, store_block


# one binary for all lengths: what the self-check compiled is what runs
@triton.jit(do_not_specialize=["T", "J0", "LS", "H"])
def passed_back_kernel(
    r,
    rows,
    solved,
    d_prediction,
    cu_seqlens,
    chunk_table,
    T,
    J0,
    LS,
    H,
    bound,
    ROWS: tl.constexpr,
    CLIPPED: tl.constexpr,
    V: tl.constexpr,
    C: tl.constexpr,
    BV: tl.constexpr,
    VARLEN: tl.constexpr,
):
    """Into d_prediction [chunks, H, C, V]: - gamma mu, of R's solved systems, where the clip let r through."""
    v0 = tl.program_id(0) * BV
    index = tl.program_id(1).to(tl.int64)
    h = tl.program_id(2)
    n, start, end = chunk_span(index, cu_seqlens, chunk_table, T, J0, LS, C, VARLEN)
    if n < 0:
        return
    at = index * H + h
    gamma = tl.load(rows + at * (ROWS * C) + 3 * C + tl.arange(0, C))
    back = -gamma[:, None] * load_block(solved, at, C, V, v0, C, BV).to(tl.float32)
    if CLIPPED:
        error = load_tile(r, start, end, h, H, V, v0, C, BV).to(tl.float32)
        back = tl.where(tl.abs(error) > bound, 0.0, back)
    store_block(d_prediction, back, at, C, V, v0, C, BV)
