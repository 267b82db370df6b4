"""The passes: which kernel runs after which, on which buffers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from rla_exp.kernels.options import Options
from rla_exp.kernels.triton.assembler import use_installed_assembler
from rla_exp.kernels.triton.call import ALL, Call, Gradients, Operands, Saved
from rla_exp.kernels.triton.forward import forward_kernel
from rla_exp.kernels.triton.gradients import gradients_kernel
from rla_exp.kernels.triton.plan import CHECKPOINT_EVERY
from rla_exp.kernels.triton.prepare import BETA_ROW, GAMMA_ROW, ROWS, prepare_kernel
from rla_exp.kernels.triton.replay import replay_kernel
from rla_exp.kernels.triton.reverse import reverse_kernel
from rla_exp.kernels.triton.scores import scores_kernel
from rla_exp.kernels.triton.tiles import Tiles


def fused_forward(
    x: Operands, options: Options, S: Tensor | None, R: Tensor | None, *, keep: bool, tiles: Tiles | None = None
) -> tuple[Tensor, Tensor, Tensor | None, Saved]:
    """o [B, T, H, V] in v's dtype, the final states [N, H, K, V] float32, and with `keep` what the backward needs."""
    use_installed_assembler()
    call = Call.of(x, options, tiles)
    switches, chunking, H = call.switches, call.chunking, call.num_heads
    N, _, K, V = call.state_shape
    new = x.q.new_empty
    o = new(x.v.shape)
    final_S = new(call.state_shape, dtype=torch.float32)
    final_R = new(call.state_shape, dtype=torch.float32) if switches.RESIDUAL else None
    saved = Saved(None, None, None)
    if keep:
        shape = (chunking.num_checkpoints, H, K, V)
        saved = Saved(
            r=new(x.v.shape) if switches.FIT else None,
            S=new(shape, dtype=torch.float32),
            R=new(shape, dtype=torch.float32) if switches.RESIDUAL else None,
        )

    chunks = chunking.chunks_per_sequence
    rows, matrices = _prepare(call, 0, chunks)
    tile = call.tiles.forward
    forward_kernel[(call.blocks(tile.BV), N * H)](
        x.q,
        x.k,
        x.v,
        rows,
        matrices,
        S,
        R,
        o,
        final_S,
        final_R,
        saved.r,
        saved.S,
        saved.R,
        chunking.cu_seqlens,
        chunking.cu_chunks,
        chunking.num_tokens,
        chunks,
        H,
        call.scale,
        *call.clip_bounds,
        EVERY=CHECKPOINT_EVERY,
        HAS_INITIAL=S is not None,
        KEEP=keep,
        **call.constants(ALL),
        **switches.matrix_slots(),
        **tile.launch(),
    )
    return o, final_S, final_R, saved


def fused_backward(
    x: Operands,
    options: Options,
    saved: Saved,
    do: Tensor,
    dS: Tensor | None,
    dR: Tensor | None,
    *,
    tiles: Tiles | None = None,
) -> Gradients:
    """Gradients of the operands and of the initial states, from those of o and of the final states (None: zero)."""
    call = Call.of(x, options, tiles)
    switches, chunking, H = call.switches, call.chunking, call.num_heads
    C = call.tiles.C
    N, _, K, V = call.state_shape
    do = do.contiguous()

    def first(gradient: Tensor | None) -> Tensor:
        if gradient is None:
            return x.q.new_zeros(call.state_shape, dtype=torch.float32)
        return gradient.to(torch.float32, copy=True, memory_format=torch.contiguous_format)

    dS = first(dS)
    dR = first(dR) if switches.RESIDUAL else None
    dq, dk, dv = torch.empty_like(x.q), torch.empty_like(x.k), torch.empty_like(x.v)
    dg, dbeta = torch.empty_like(x.g), torch.empty_like(x.beta)
    dgamma = None if x.gamma is None else torch.empty_like(x.gamma)

    slots = switches.matrix_slots()
    states = 1 + switches.RESIDUAL
    itemsize = x.q.element_size()
    per_chunk = H * itemsize * (slots["NUM_MATRICES"] * C * C + states * (2 * K * V + 2 * C * V))
    slices = chunking.slices(per_chunk)
    num_rows = chunking.num_rows(max(length for _, length in slices))

    def scratch(*shape: int) -> tuple[Tensor, Tensor | None]:
        S = x.q.new_empty((num_rows, H, *shape))
        return S, torch.empty_like(S) if switches.RESIDUAL else None

    before_S, before_R = scratch(K, V)
    after_S, after_R = scratch(K, V)
    solved_S, solved_R = scratch(C, V)
    at_k_S, at_k_R = scratch(C, V)
    _, clip_inside, _ = call.clip_bounds

    for start, length in slices:
        rows, matrices = _prepare(call, start, length)
        where = call.slice(start, length)
        grid = (chunking.num_rows(length), H)
        _replay(call, saved, rows, matrices, before_S, before_R, at_k_S, at_k_R, start, length)
        tile = call.tiles.reverse
        reverse_kernel[(call.blocks(tile.BV), N * H)](
            x.q,
            x.k,
            saved.r,
            do,
            rows,
            matrices,
            dS,
            dR,
            after_S,
            after_R,
            solved_S,
            solved_R,
            chunking.cu_seqlens,
            chunking.cu_chunks,
            *where[2:],
            call.scale,
            clip_inside,
            **call.constants(ALL),
            **slots,
            **tile.launch(),
        )
        scores_kernel[grid](
            x.q,
            x.k,
            x.v,
            saved.r,
            do,
            rows,
            matrices,
            at_k_S,
            at_k_R,
            solved_S,
            solved_R,
            dv,
            dbeta,
            dgamma,
            *where,
            call.scale,
            clip_inside,
            **call.tiles.scores.launch(),
            **call.constants(ALL),
            **call.slots("AT_TB", "AT_TY", "AT_READ_S", "AT_PREDICT", "NUM_MATRICES"),
        )
        constants = call.constants(("DELTA", "RESIDUAL", "FIT", "SUM", "NORMALIZE"))
        gradients_kernel[grid](
            x.q,
            x.k,
            do,
            rows,
            matrices,
            before_S,
            before_R,
            after_S,
            after_R,
            at_k_S,
            at_k_R,
            solved_S,
            solved_R,
            dq,
            dk,
            dg,
            dgamma,
            *where,
            call.scale,
            **call.tiles.gradients.launch(),
            **(constants | {"BK": call.tiles.gradients_BK}),
            **call.slots("AT_TB", "AT_READ_S", "AT_PREDICT", "NUM_MATRICES"),
        )
    return Gradients(dq, dk, dv, dg, dbeta, dgamma, dS, dR)


def _replay(
    call: Call,
    saved: Saved,
    rows: Tensor,
    matrices: Tensor,
    before_S: Tensor,
    before_R: Tensor | None,
    at_k_S: Tensor,
    at_k_R: Tensor | None,
    start: int,
    length: int,
) -> None:
    """The states before every chunk of a slice, and what they hold at k where that is needed."""
    x, switches, slots, tile = call.x, call.switches, call.switches.matrix_slots(), call.tiles.replay
    reads_S = switches.DELTA or switches.FIT
    memories: list[tuple[Tensor, Tensor | None, Tensor | None, Tensor | None, dict[str, Any]]] = [
        (
            x.v,
            saved.S,
            before_S,
            at_k_S,
            {
                "STRENGTH_ROW": BETA_ROW,
                "AT_T": slots["AT_TB"],
                "CLIPPED": False,
                "READ": reads_S,
            },
        )
    ]
    if switches.RESIDUAL:
        values = x.v if saved.r is None else saved.r
        constants = {
            "STRENGTH_ROW": GAMMA_ROW,
            "AT_T": slots["AT_TY"],
            "CLIPPED": switches.CLIPPED,
            "READ": switches.DELTA,
        }
        memories.append((values, saved.R, before_R, at_k_R, constants))
    for values, checkpoints, before, at_k, constants in memories:
        replay_kernel[(call.blocks(tile.BV), call.chunking.num_rows(length), call.num_heads)](
            x.k,
            values,
            rows,
            matrices,
            checkpoints,
            before,
            at_k,
            *call.slice(start, length),
            call.clip_bounds[1],
            EVERY=CHECKPOINT_EVERY,
            NUM_MATRICES=slots["NUM_MATRICES"],
            **constants,
            **call.constants(("DELTA",)),
            **tile.launch(),
        )


def _prepare(call: Call, start: int, length: int) -> tuple[Tensor, Tensor]:
    """Gates by row [chunks, H, ROWS, C] and matrices [chunks, H, NUM_MATRICES, C, C] of a slice."""
    x, chunking, H, C = call.x, call.chunking, call.num_heads, call.tiles.C
    num_rows = chunking.num_rows(length)
    slots = call.switches.matrix_slots()
    rows = x.q.new_empty((num_rows, H, ROWS, C), dtype=torch.float32)
    matrices = x.q.new_empty((num_rows, H, slots["NUM_MATRICES"], C, C))
    constants = call.constants(("DELTA", "RESIDUAL", "FIT", "SUM", "DECAYED", "NORMALIZE"))
    del constants["V"]
    prepare_kernel[(num_rows, H)](
        x.q,
        x.k,
        x.g,
        x.beta,
        x.gamma,
        rows,
        matrices,
        *call.slice(start, length),
        call.scale,
        MERGE=call.tiles.merge,
        M=16,
        num_warps=call.tiles.prepare_warps,
        **constants,
        **slots,
    )
    return rows, matrices
