"""One token of decoding in one kernel: S and R are read once and written once, at the speed of memory."""

# Triton reads annotations: no `from __future__ import annotations` in files with kernels
from dataclasses import asdict

import torch
import triton
import triton.language as tl
from torch import Tensor

from rla_exp.kernels.inputs import Inputs
from rla_exp.kernels.options import Options
from rla_exp.kernels.state import State
from rla_exp.kernels.triton.plan import Switches, block_size

MAX_HEAD_DIM = 256
# entries of each state that a program holds: two states of 4096 float32 fill a quarter of 4 warps' registers
TILE = 4096
MIN_COLUMNS, MAX_COLUMNS = 8, 32
NUM_WARPS = 4


# of each stride's divisibility there would be a kernel of its own; the states' addresses do not depend on them
STRIDES = [f"{name}_{axis}" for name in ("q", "k", "v", "g", "beta", "gamma") for axis in "bh"]


@triton.jit(do_not_specialize=[*STRIDES, "H"])
def step_kernel(
    q,
    k,
    v,
    g,
    beta,
    gamma,
    S,
    R,
    new_S,
    new_R,
    o,
    q_b,
    q_h,
    k_b,
    k_h,
    v_b,
    v_h,
    g_b,
    g_h,
    beta_b,
    beta_h,
    gamma_b,
    gamma_h,
    H,
    scale,
    clip,
    K: tl.constexpr,
    V: tl.constexpr,
    BK: tl.constexpr,
    BV: tl.constexpr,
    DELTA: tl.constexpr,
    RESIDUAL: tl.constexpr,
    FIT: tl.constexpr,
    CLIPPED: tl.constexpr,
    SUM: tl.constexpr,
    DECAYED: tl.constexpr,
    NORMALIZE: tl.constexpr,
    HAS_G: tl.constexpr,
    HAS_BETA: tl.constexpr,
):
    """BV columns of one head's states; `*_b` and `*_h` are strides, states and o are contiguous.

    A program reads its part of the states before it writes it, and no other program's: new_S may be S, new_R R.
    """
    v0 = tl.program_id(0) * BV
    row = tl.program_id(1).to(tl.int64)
    n = row // H
    h = row % H
    i = tl.arange(0, BK)
    d = v0 + tl.arange(0, BV)
    inside = (i < K)[:, None] & (d < V)[None, :]
    place = row * (K * V) + i[:, None] * V + d[None, :]

    S_tile = tl.load(S + place, mask=inside, other=0.0)
    if RESIDUAL:
        R_tile = tl.load(R + place, mask=inside, other=0.0)
    q_row = tl.load(q + n * q_b + h * q_h + i, mask=i < K, other=0.0).to(tl.float32)
    k_row = tl.load(k + n * k_b + h * k_h + i, mask=i < K, other=0.0).to(tl.float32)
    v_row = tl.load(v + n * v_b + h * v_h + d, mask=d < V, other=0.0).to(tl.float32)
    a = 1.0
    if HAS_G:
        a = tl.exp(tl.load(g + n * g_b + h * g_h).to(tl.float32))
    b = 1.0
    if HAS_BETA:
        b = tl.load(beta + n * beta_b + h * beta_h).to(tl.float32)
    if NORMALIZE:
        q_row *= 1.0 / tl.sqrt_rn(tl.sum(q_row * q_row, 0) + 1e-6)
        k_row *= 1.0 / tl.sqrt_rn(tl.sum(k_row * k_row, 0) + 1e-6)
    q_row *= scale
    kq = tl.sum(q_row * k_row, 0)

    S_at_q = tl.sum(S_tile * q_row[:, None], 0)
    u = v_row
    if DELTA or FIT:
        S_at_k = tl.sum(S_tile * k_row[:, None], 0)
    if DELTA:
        u -= a * S_at_k
    u *= b
    tl.store(new_S + place, a * S_tile + k_row[:, None] * u[None, :], mask=inside)

    if RESIDUAL:
        y = tl.load(gamma + n * gamma_b + h * gamma_h).to(tl.float32)
        r = v_row
        if FIT:
            r -= a * S_at_k if DECAYED else S_at_k
            if CLIPPED:
                # not min and max, which would make a bound of a NaN
                r = tl.where(tl.abs(r) > clip, tl.where(r < 0, -clip, clip), r)
        w = r
        if DELTA:
            w -= a * tl.sum(R_tile * k_row[:, None], 0)
        w *= y
        R_at_q = a * tl.sum(R_tile * q_row[:, None], 0) + kq * w
        tl.store(new_R + place, a * R_tile + k_row[:, None] * w[None, :], mask=inside)
        o_row = S_at_q + R_at_q if SUM else a * S_at_q + y * R_at_q
    else:
        o_row = a * S_at_q + kq * u
    tl.store(o + row * V + d, o_row.to(o.dtype.element_ty), mask=d < V)


def triton_step(inputs: Inputs, options: Options, *, inplace: bool) -> tuple[Tensor, State]:
    """As `kernels.step.step`, without gradients; K and V up to MAX_HEAD_DIM, inputs of at most 32 bits.

    In place, and with inputs whose last axis is dense, only o is allocated, and nothing waits for the GPU.
    """
    assert inputs.initial_state is not None
    q, k, v = _dense_rows(inputs.q), _dense_rows(inputs.k), _dense_rows(inputs.v)
    g, beta, gamma = inputs.g, inputs.beta, inputs.gamma
    S, R = inputs.initial_state
    S, R = S.contiguous(), None if R is None else R.contiguous()
    new_S, new_R = S, R
    if not inplace:
        new_S, new_R = torch.empty_like(S), None if R is None else torch.empty_like(R)
    N, H, K, V = inputs.state_shape
    o = torch.empty(N, H, V, dtype=v.dtype, device=v.device)
    BK = block_size(K)
    BV = block_of_columns(N * H, BK, V, _num_processors(q.device))
    with torch.cuda.device_of(q):
        # what a call lacks is given q in its place, and not read
        step_kernel[triton.cdiv(V, BV), N * H](
            q,
            k,
            v,
            q if g is None else g,
            q if beta is None else beta,
            q if gamma is None else gamma,
            S,
            S if R is None else R,
            new_S,
            new_S if new_R is None else new_R,
            o,
            *(stride for x in (q, k, v, g, beta, gamma) for stride in ((0, 0) if x is None else x.stride()[:2])),
            H,
            options.query_scale(K),
            0.0 if options.clip is None else float(options.clip),
            K=K,
            V=V,
            BK=BK,
            BV=BV,
            **asdict(Switches.of(options)),
            HAS_G=g is not None,
            HAS_BETA=beta is not None,
            num_warps=NUM_WARPS,
            enable_fp_fusion=True,
        )
    if inplace:
        for given, written in zip(inputs.initial_state, (new_S, new_R), strict=True):
            # was not contiguous
            if given is not None and written is not None and given is not written:
                given.copy_(written)
        return o, inputs.initial_state
    return o, State(new_S, new_R)


def block_of_columns(rows: int, BK: int, V: int, num_processors: int) -> int:
    """Columns of a program, a power of 2: wide enough for whole memory transactions, and two programs a processor."""
    columns = min(MAX_COLUMNS, max(MIN_COLUMNS, TILE // BK), block_size(V))
    while columns > MIN_COLUMNS and rows * triton.cdiv(V, columns) < 2 * num_processors:
        columns //= 2
    return int(columns)


def _dense_rows(x: Tensor) -> Tensor:
    return x if x.stride(-1) == 1 else x.contiguous()


def _num_processors(device: torch.device) -> int:
    # the interpreter of the tests runs on the CPU
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1
