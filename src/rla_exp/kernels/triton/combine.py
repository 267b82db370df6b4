"""What segments of a sequence do to its state, and from that the state which each of them begins with.

A segment is affine in the state that it begins with, and so is the backward recursion in the gradient of the state that
a segment ends with:

    S_end = M S_begin + L        dS_begin = M^T dS_end + L'

L is what comes of zero, and the columns of M (M^T) are what comes of the identity's where no values (no gradients of
outputs) arrive. With the additive rule M is a number, the decay of the whole segment.
"""

import triton
import triton.language as tl

from rla_exp.kernels.triton.chunks import load_block, store_block


@triton.jit
def block_of_identity(v0, V: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr):
    """[BK, BV] that a program begins with: zeros for V's columns, and the identity's for the blocks after them."""
    column = v0 - tl.cdiv(V, BV) * BV + tl.arange(0, BV)
    return tl.where(tl.arange(0, BK)[:, None] == column[None, :], 1.0, 0.0)


@triton.jit
def store_effect(
    local,
    maps,
    S,
    total_decay,
    at,
    K: tl.constexpr,
    V: tl.constexpr,
    v0,
    BK: tl.constexpr,
    BV: tl.constexpr,
    DELTA: tl.constexpr,
):
    """What a program found of the at-th chain: a block of L into local [chains, H, K, V], or one of M into maps.

    maps: [chains, H] the decays, or [chains, H, 2, K, K] M rounded to 16 bits and what that leaves of it, likewise
    rounded; [chains, H, 1, K, K] in float32.
    """
    dtype = maps.dtype.element_ty
    after_V: tl.constexpr = (V + BV - 1) // BV * BV
    if not DELTA:
        tl.store(maps + at, total_decay)
        store_block(local, S, at, K, V, v0, BK, BV)
    elif v0 < after_V:
        store_block(local, S, at, K, V, v0, BK, BV)
    elif dtype == tl.float32:
        store_block(maps, S, at, K, K, v0 - after_V, BK, BV)
    else:
        store_block(maps, S, 2 * at, K, K, v0 - after_V, BK, BV)
        store_block(maps, S - S.to(dtype).to(tl.float32), 2 * at + 1, K, K, v0 - after_V, BK, BV)


# one binary for all numbers of segments: what the self-check compiled is what runs
@triton.jit(do_not_specialize=["P", "H"])
def combine_kernel(
    local,
    maps,
    initial,
    states,
    P,
    H,
    K: tl.constexpr,
    V: tl.constexpr,
    BK: tl.constexpr,
    BV: tl.constexpr,
    DELTA: tl.constexpr,
    BACKWARDS: tl.constexpr,
    HAS_INITIAL: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """What each segment begins with (BACKWARDS: the gradient after it) into states, from L in local [chains, H, K, V].

    A program takes a block of V's columns of a head, and P segments in order. Products as exact as in float32: states
    that hardly decay would else lose more at each segment's end than at a chunk's, where only what is read is rounded.
    """
    v0 = tl.program_id(0) * BV
    n = (tl.program_id(1) // H).to(tl.int64)
    h = tl.program_id(1) % H
    dtype = maps.dtype.element_ty
    S = tl.zeros((BK, BV), tl.float32)
    if HAS_INITIAL:
        S = load_block(initial, n * H + h, K, V, v0, BK, BV)
    for step in range(1, P):
        at = (n * P + (P - step if BACKWARDS else step - 1)) * H + h
        store_block(states, S, at, K, V, v0, BK, BV)
        L = load_block(local, at, K, V, v0, BK, BV)
        if not DELTA:
            S = tl.load(maps + at) * S + L
        elif dtype == tl.float32:
            S = tl.dot(load_block(maps, at, K, K, 0, BK, BK), S, L, input_precision=PRECISION)
        else:
            rounded = load_block(maps, 2 * at, K, K, 0, BK, BK)
            left = load_block(maps, 2 * at + 1, K, K, 0, BK, BK)
            S_rounded = S.to(dtype)
            S_left = (S - S_rounded.to(tl.float32)).to(dtype)
            S = tl.dot(rounded, S_left, L, input_precision=PRECISION)
            S = tl.dot(left, S_rounded, S, input_precision=PRECISION)
            S = tl.dot(rounded, S_rounded, S, input_precision=PRECISION)
    store_block(states, S, (n * P + (0 if BACKWARDS else P - 1)) * H + h, K, V, v0, BK, BV)
