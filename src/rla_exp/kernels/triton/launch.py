"""The forward pass: which kernel runs after which, on which buffers. Backward: backward.py."""

from __future__ import annotations

import torch
from torch import Tensor

from rla_exp.kernels.options import Options
from rla_exp.kernels.triton.assembler import use_installed_assembler
from rla_exp.kernels.triton.call import Call, Operands, Saved
from rla_exp.kernels.triton.forward import forward_kernel
from rla_exp.kernels.triton.matrices import invert, make_matrices
from rla_exp.kernels.triton.plan import CHECKPOINT_EVERY, MAX_EXACT_K
from rla_exp.kernels.triton.segments import launches
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
    saved = Saved(None, None, None, None)
    chunks = chunking.chunks_per_sequence
    # R is fed it; in one kernel it need not pass through memory
    r = new(x.v.shape) if switches.FIT and (keep or not call.tiles.forward_in_one) else None
    if keep:
        shape = (chunking.num_checkpoints, H, K, V)
        saved = Saved(
            r=r,
            S=new(shape, dtype=torch.float32),
            R=new(shape, dtype=torch.float32) if switches.RESIDUAL else None,
            inverses=None,
        )
    if call.tiles.forward_in_one:
        from rla_exp.kernels.triton.hopper import launch as hopper

        inverses = hopper.forward(call, S, R, o, r, final_S, final_R, saved.S, saved.R)
        return o, final_S, final_R, saved._replace(inverses=inverses if keep else None)

    exact = switches.exact(x.q.dtype)
    inverses, rest = invert(call)
    left = None
    if exact and not switches.DELTA:
        left = new((chunking.num_rows(chunks), H, call.tiles.C, call.tiles.C))
    if keep:
        saved = saved._replace(inverses=inverses)
    rows, matrices = make_matrices(call, inverses, 0, chunks, exact=exact, rest=rest, left=left)
    states: list[tuple[bool, Tensor, Tensor | None, Tensor, Tensor | None]]
    states = [(False, x.v, S, final_S, saved.S)]
    if final_R is not None:
        states.append((True, x.v if r is None else r, R, final_R, saved.R))
    P, LP = chunking.segments(chunks, call.tiles.segments)
    for second, values, initial, final, checkpoints in states:
        tile = call.tiles.forward
        for launch in launches(call, tile, initial, final, P, backwards=False):
            loads = call.loads(tile, effect=launch.maps is not None)
            forward_kernel[launch.blocks, N * P * H](
                loads.qk(x.q),
                loads.qk(x.k),
                loads.values(values),
                rows,
                loads.matrices(inverses),
                loads.matrices(matrices),
                None if second else loads.matrices(left),
                launch.initial,
                loads.values(o) if second else None,
                o,
                launch.final,
                launch.maps,
                r,
                checkpoints,
                chunking.cu_seqlens,
                chunking.cu_chunks,
                chunking.num_tokens,
                chunks,
                P,
                LP,
                H,
                *call.clip_bounds,
                HAS_INITIAL=launch.initial is not None,
                KEEP=keep and launch.maps is None,
                EFFECT=launch.maps is not None,
                LEFT=left is not None and not second,
                EXACT_WRITES=exact and (not second or K <= MAX_EXACT_K),
                BATCH=CHECKPOINT_EVERY if keep and launch.maps is None else ALL_CHUNKS,
                TMA=loads.described,
                # named at the loop, they hold for what no product takes, too: o
                STAGES=tile.num_stages if second and loads.described else None,
                **call.constants(CHAIN),
                **call.places(second=second),
                **tile.launch(),
            )
    return o, final_S, final_R, saved


ALL_CHUNKS = 2**20  # chunks of a batch, where none needs to end
CHAIN = ("DELTA", "RESIDUAL", "FIT", "CLIPPED", "SUM")
