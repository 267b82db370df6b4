"""The forward pass: which kernel runs after which, on which buffers. Backward: backward.py."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from rla_exp.kernels.options import Options
from rla_exp.kernels.triton.assembler import use_installed_assembler
from rla_exp.kernels.triton.call import Call, Carried, Operands, Saved
from rla_exp.kernels.triton.forward import forward_kernel
from rla_exp.kernels.triton.matrices import invert, make_matrices, make_rows
from rla_exp.kernels.triton.plan import CHECKPOINT_EVERY, MAX_EXACT_K
from rla_exp.kernels.triton.segments import Launch, launches
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
    P, LP = chunking.segments(chunks, call.tiles.segments)
    # both states in one launch, where R's pass takes r and o of S from shared memory
    in_one = call.tiles.forward_on_hopper and P == 1
    r = new(x.v.shape) if switches.FIT and (keep or not in_one) else None
    if keep:
        shape = (chunking.num_checkpoints, H, K, V)
        saved = Saved(
            r=r,
            S=new(shape, dtype=torch.float32),
            R=new(shape, dtype=torch.float32) if switches.RESIDUAL else None,
            inverses=None,
        )
    exact = switches.exact(x.q.dtype)
    inverses, rest = invert(call)
    if keep:
        saved = saved._replace(inverses=inverses)
    states = [_State(False, x.v, Carried(S, final_S, saved.S))]
    if final_R is not None:
        states.append(_State(True, x.v if r is None else r, Carried(R, final_R, saved.R)))
    matrices = left = None
    if call.tiles.forward_on_hopper:
        from rla_exp.kernels.triton.hopper import launch as hopper

        rows = make_rows(call, 0, chunks)
    else:
        if exact and not switches.DELTA:
            left = new((chunking.num_rows(chunks), H, call.tiles.C, call.tiles.C))
        rows, matrices = make_matrices(call, inverses, 0, chunks, exact=exact, rest=rest, left=left)

    def carry(state: _State, launch: Launch) -> None:
        tile = call.tiles.forward
        loads = call.loads(tile, effect=launch.maps is not None)
        forward_kernel[launch.blocks, N * P * H](
            loads.qk(x.q),
            loads.qk(x.k),
            loads.values(state.values),
            rows,
            loads.matrices(inverses),
            loads.matrices(matrices),
            None if state.second else loads.matrices(left),
            launch.initial,
            loads.values(o) if state.second else None,
            o,
            launch.final,
            launch.maps,
            r,
            state.carried.checkpoints,
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
            LEFT=left is not None and not state.second,
            EXACT_WRITES=exact and (not state.second or K <= MAX_EXACT_K),
            BATCH=CHECKPOINT_EVERY if keep and launch.maps is None else ALL_CHUNKS,
            TMA=loads.described,
            # named at the loop, they hold for what no product takes, too: o
            STAGES=tile.num_stages if state.second and loads.described else None,
            **call.constants(CHAIN),
            **call.places(second=state.second),
            **tile.launch(),
        )

    def carry_on_hopper(state: _State, launch: Launch) -> None:
        carried = state.carried._replace(initial=launch.initial, final=launch.final)
        S, R = (None, carried) if state.second else (carried, None)
        hopper.forward(call, S, R, state.values, o, r, rows, inverses, rest, (P, LP))

    if in_one:
        of_S, of_R = states[0].carried, states[1].carried if switches.RESIDUAL else None
        hopper.forward(call, of_S, of_R, x.v, o, r, rows, inverses, rest, (P, LP))
        return o, final_S, final_R, saved
    for state in states:
        initial, final, _ = state.carried
        for launch in launches(call, call.tiles.forward, initial, final, P, backwards=False):
            # what a segment does to the state is found by the same kernel everywhere
            if call.tiles.forward_on_hopper and launch.maps is None:
                carry_on_hopper(state, launch)
            else:
                carry(state, launch)
    return o, final_S, final_R, saved


class _State(NamedTuple):
    """S, or (second) R: what it is fed, and its pass."""

    second: bool
    values: Tensor
    carried: Carried


ALL_CHUNKS = 2**20  # chunks of a batch, where none needs to end
CHAIN = ("DELTA", "RESIDUAL", "FIT", "CLIPPED", "SUM")
