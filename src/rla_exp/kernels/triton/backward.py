"""The backward pass: which kernel runs after which, on which buffers."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from rla_exp.kernels.options import Options
from rla_exp.kernels.triton.call import Buffers, Call, Gradients, Operands, Replayed, Saved
from rla_exp.kernels.triton.gradients import gradients_kernel
from rla_exp.kernels.triton.launch import ALL_CHUNKS, CHAIN
from rla_exp.kernels.triton.matrices import make_matrices, make_rows
from rla_exp.kernels.triton.plan import CHECKPOINT_EVERY
from rla_exp.kernels.triton.replay import replay_kernel
from rla_exp.kernels.triton.reverse import reverse_kernel
from rla_exp.kernels.triton.segments import launches
from rla_exp.kernels.triton.tiles import Tiles


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

    slices = chunking.slices(_scratch_bytes(call))
    num_rows = chunking.num_rows(max(length for _, length in slices))

    def scratch(*shape: int) -> Tensor:
        return x.q.new_empty((num_rows, H, *shape))

    in_one = call.tiles.reverse_on_hopper
    of_S = Buffers(scratch(K, V), scratch(C, V))
    of_R = Buffers(scratch(K, V), scratch(C, V)) if in_one and switches.RESIDUAL else of_S
    gradients_on_hopper = call.tiles.gradients_on_hopper
    reads_states = switches.DELTA or switches.FIT
    replayed = None if gradients_on_hopper else Replayed(scratch(K, V), scratch(C, V) if reads_states else None)
    written = scratch(C, V) if switches.DELTA and not gradients_on_hopper else None  # by gradients, for itself
    # the reverse pass over both states passes on v's gradient itself
    goes_back = switches.FIT or (switches.RESIDUAL and not (in_one and gradients_on_hopper))
    d_prediction = scratch(C, V) if goes_back else None
    _, clip_inside, _ = call.clip_bounds

    assert saved.S is not None
    states = [_State(False, x.v, saved.S, dS, dbeta, of_S)]
    if switches.RESIDUAL:
        assert saved.R is not None
        assert dR is not None
        assert dgamma is not None
        # first: what R was fed came from S
        states.insert(0, _State(True, x.v if saved.r is None else saved.r, saved.R, dR, dgamma, of_R))

    def replay(state: _State, rows: Tensor, replayed: Replayed) -> None:
        tile = call.tiles.replay
        replay_kernel[call.blocks(tile.BV), every_chunk, H](
            x.k,
            state.values,
            rows,
            saved.inverses,
            state.checkpoints,
            replayed.before,
            replayed.reads,
            *where,
            clip_inside,
            EVERY=CHECKPOINT_EVERY,
            SECOND=state.second,
            READ=reads_state(state),
            **call.constants(("DELTA", "RESIDUAL", "CLIPPED")),
            **tile.launch(),
        )

    def reverse(state: _State, rows: Tensor, matrices: Tensor) -> None:
        tile = call.tiles.reverse_R if state.second else call.tiles.reverse_S
        P, LP = chunking.segments(length, call.tiles.reverse_segments)
        for launch in launches(call, tile, state.gradient, state.gradient, P, backwards=True):
            loads = call.loads(tile, effect=launch.maps is not None)
            reverse_kernel[launch.blocks, N * P * H](
                loads.qk(x.q),
                loads.qk(x.k),
                loads.values(do),
                rows,
                loads.matrices(saved.inverses),
                loads.matrices(matrices),
                launch.final,
                launch.maps,
                state.buffers.after,
                state.buffers.solved,
                None if state.second else loads.blocks(d_prediction),
                dv,
                chunking.cu_seqlens,
                chunking.cu_chunks,
                *where[2:-1],
                P,
                LP,
                H,
                EFFECT=launch.maps is not None,
                BATCH=ALL_CHUNKS,
                TMA=loads.described,
                **call.constants(("DELTA", "RESIDUAL", "FIT", "SUM")),
                **call.places(second=state.second),
                **tile.launch(),
            )

    def gradients(state: _State, rows: Tensor) -> None:
        if gradients_on_hopper:
            of_state[state.second].launch(rows, start, length)
            return
        assert replayed is not None
        replay(state, rows, replayed)
        tile = call.tiles.gradients_R if state.second else call.tiles.gradients_S
        loads = call.loads(tile)
        gradients_kernel[every_chunk, H](
            x.q,
            x.k,
            loads.values(state.values),
            loads.values(do),
            rows,
            saved.inverses,
            loads.blocks(replayed.before),
            loads.blocks(state.buffers.after),
            loads.blocks(replayed.reads) if reads_state(state) else None,
            loads.blocks(state.buffers.solved),
            # R leaves it, S takes it
            d_prediction if state.second else loads.blocks(d_prediction) if switches.FIT else None,
            written,
            dq,
            dk,
            dg,
            state.d_strength,
            *where,
            call.scale,
            clip_inside,
            SECOND=state.second,
            TMA=loads.described,
            # as above: for what only sums of rows take
            STAGES=tile.num_stages if loads.described else None,
            **call.constants((*CHAIN, "DECAYED", "NORMALIZE")),
            **tile.launch(),
        )

    def reads_state(state: _State) -> bool:
        return switches.DELTA or (switches.FIT and not state.second)

    if gradients_on_hopper:
        from rla_exp.kernels.triton.hopper.launch import GradientsOfState

        of_state = {
            state.second: GradientsOfState(
                call,
                saved.inverses,
                do,
                state.values,
                state.checkpoints,
                state.buffers,
                d_prediction,
                (dq, dk, dg, state.d_strength),
                second=state.second,
            )
            for state in states
        }

    if in_one:
        from rla_exp.kernels.triton.hopper.launch import Reverse

        both = Reverse(call, saved, do, dS, dR, of_S, of_R, dv)

    for start, length in slices:
        where = call.slice(start, length)
        every_chunk = chunking.num_rows(length)
        if in_one:
            rows = make_rows(call, start, length)
            both.launch(rows, start, length)
            for state in states:
                gradients(state, rows)
        else:
            rows, matrices = make_matrices(call, saved.inverses, start, length)
            for state in states:
                reverse(state, rows, matrices)
                gradients(state, rows)
    return Gradients(dq, dk, dv, dg, dbeta, dgamma, dS, dR)


class _State(NamedTuple):
    """What the backward pass of S, or of R (second), works on."""

    second: bool
    values: Tensor
    checkpoints: Tensor
    gradient: Tensor
    d_strength: Tensor
    buffers: Buffers


def _scratch_bytes(call: Call) -> int:
    """Of a chunk of all heads in the backward pass, the gates' rows left out."""
    x, C = call.x, call.tiles.C
    *_, K, V = call.state_shape
    switches, tiles = call.switches, call.tiles
    matrices = 0 if tiles.reverse_on_hopper else switches.matrix_slots()["NUM_MATRICES"] * C * C
    # those of R stay until both states' gradients are carried on
    buffers = (1 + (tiles.reverse_on_hopper and switches.RESIDUAL)) * (K * V + C * V)
    back = switches.RESIDUAL * C * V
    replayed = 0
    if not tiles.gradients_on_hopper:
        replayed = K * V + (switches.DELTA or switches.FIT) * C * V + switches.DELTA * C * V
    return call.num_heads * x.q.element_size() * (matrices + buffers + back + replayed)
