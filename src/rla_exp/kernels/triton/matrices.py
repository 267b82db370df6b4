"""What depends on q, k and the gates alone, made chunk by chunk before the passes along the sequence."""

from __future__ import annotations

import torch
import triton.language as tl
from torch import Tensor

from rla_exp.kernels.triton.call import Call
from rla_exp.kernels.triton.inverses import inverses_kernel
from rla_exp.kernels.triton.plan import ROWS
from rla_exp.kernels.triton.prepare import prepare_kernel
from rla_exp.kernels.triton.rows import rows_kernel
from rla_exp.kernels.triton.tiles import BLOCK


def invert(call: Call) -> tuple[Tensor | None, Tensor | None]:
    """The inverted systems [chunks, H, 1 or 2, C, C] of all chunks; (None, None) with the additive rule.

    In bfloat16, where predictions are exact, also what rounding took of those of S [chunks, H, C, C].
    """
    x, chunking, C = call.x, call.chunking, call.tiles.C
    count = call.switches.num_inverses
    if not count:
        return None, None
    num_rows = chunking.num_rows(chunking.chunks_per_sequence)
    inverses = x.q.new_empty((num_rows, call.num_heads, count, C, C))
    rest = None
    if call.switches.leaves_rest(x.q.dtype):
        rest = x.q.new_empty((num_rows, call.num_heads, C, C))
    constants = call.constants(("RESIDUAL", "NORMALIZE"))
    for name in ("V", "BK", "ROWS"):
        del constants[name]
    inverses_kernel[num_rows, call.num_heads](
        x.k,
        x.g,
        x.beta,
        x.gamma,
        inverses,
        rest,
        *call.slice(0, chunking.chunks_per_sequence),
        # 16 bits that lose no more than tf32: rows of an inverse, where it exists in 16 bits, are of the order of 1
        MERGE=tl.float32 if x.q.dtype == torch.float32 else tl.float16,
        M=BLOCK,
        BD=BLOCK,
        REST=rest is not None,
        num_warps=call.tiles.inverses_warps,
        num_stages=call.tiles.inverses_stages,
        **constants,
    )
    return inverses, rest


def make_matrices(
    call: Call,
    inverses: Tensor | None,
    start: int,
    length: int,
    *,
    exact: bool = False,
    rest: Tensor | None = None,
    left: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Gates by row [chunks, H, ROWS, C] and matrices [chunks, H, NUM_MATRICES, C, C] of a slice.

    exact: PREDICT of operands that are not rounded, by the delta rule, with the rest of `invert`; by the additive one
    what its own rounding takes goes into left [chunks, H, C, C].
    """
    x, chunking, H, C = call.x, call.chunking, call.num_heads, call.tiles.C
    num_rows = chunking.num_rows(length)
    slots = call.switches.matrix_slots()
    rows = x.q.new_empty((num_rows, H, ROWS, C), dtype=torch.float32)
    matrices = x.q.new_empty((num_rows, H, slots["NUM_MATRICES"], C, C))
    constants = call.constants(("DELTA", "RESIDUAL", "FIT", "SUM", "DECAYED", "NORMALIZE"))
    del constants["V"]
    prepare_kernel[num_rows, H](
        x.q,
        x.k,
        x.g,
        x.beta,
        x.gamma,
        inverses,
        rest,
        rows,
        matrices,
        left,
        *call.slice(start, length),
        call.scale,
        EXACT=exact,
        REST=rest is not None,
        num_warps=call.tiles.prepare_warps,
        **constants,
        **slots,
    )
    return rows, matrices


def make_rows(call: Call, start: int, length: int) -> Tensor:
    """The gates by row [chunks, H, ROWS, C] of a slice, without matrices."""
    x = call.x
    num_rows = call.chunking.num_rows(length)
    rows = x.q.new_empty((num_rows, call.num_heads, ROWS, call.tiles.C), dtype=torch.float32)
    constants = call.constants(("RESIDUAL", "SUM", "DECAYED", "NORMALIZE"))
    for name in ("V", "PRECISION"):
        del constants[name]
    rows_kernel[num_rows, call.num_heads](
        x.q,
        x.k,
        x.g,
        x.beta,
        x.gamma,
        rows,
        *call.slice(start, length),
        call.scale,
        # norms need the tiles; without them there is work for one warp
        num_warps=call.tiles.prepare_warps if call.switches.NORMALIZE else 1,
        **constants,
    )
    return rows
