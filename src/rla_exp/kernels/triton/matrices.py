"""What depends on q, k and the gates alone, made chunk by chunk before the passes along the sequence."""

from __future__ import annotations

import torch
import triton.language as tl
from torch import Tensor

from rla_exp.kernels.triton.call import Call
from rla_exp.kernels.triton.inverses import inverses_kernel
from rla_exp.kernels.triton.plan import ROWS
from rla_exp.kernels.triton.prepare import prepare_kernel
from rla_exp.kernels.triton.tiles import BLOCK


def invert(call: Call) -> Tensor | None:
    """The inverted systems [chunks, H, 1 or 2, C, C] of all chunks; None with the additive rule.

    In bfloat16, where predictions are exact, those of S are left in float16, which `make_matrices` reads and rounds.
    """
    x, chunking, C = call.x, call.chunking, call.tiles.C
    count = call.switches.num_inverses
    if not count:
        return None
    num_rows = chunking.num_rows(chunking.chunks_per_sequence)
    inverses = x.q.new_empty((num_rows, call.num_heads, count, C, C))
    constants = call.constants(("RESIDUAL", "NORMALIZE"))
    for name in ("V", "BK", "ROWS"):
        del constants[name]
    inverses_kernel[num_rows, call.num_heads](
        x.k,
        x.g,
        x.beta,
        x.gamma,
        inverses,
        *call.slice(0, chunking.chunks_per_sequence),
        # 16 bits that lose no more than tf32: rows of an inverse, where it exists in 16 bits, are of the order of 1
        MERGE=tl.float32 if x.q.dtype == torch.float32 else tl.float16,
        M=BLOCK,
        BD=BLOCK,
        HALF=call.switches.exact(x.q.dtype) and x.q.dtype == torch.bfloat16,
        num_warps=call.tiles.inverses_warps,
        num_stages=call.tiles.inverses_stages,
        **constants,
    )
    return inverses


def make_matrices(
    call: Call, inverses: Tensor | None, start: int, length: int, *, exact: bool = False, left: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Gates by row [chunks, H, ROWS, C] and matrices [chunks, H, NUM_MATRICES, C, C] of a slice.

    exact: PREDICT of operands that are not rounded, by the delta rule; by the additive one what its own rounding takes
    goes into left [chunks, H, C, C].
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
        rows,
        matrices,
        left,
        *call.slice(start, length),
        call.scale,
        EXACT=exact,
        HALF=exact and x.q.dtype == torch.bfloat16,
        num_warps=call.tiles.prepare_warps,
        **constants,
        **slots,
    )
    return rows, matrices
