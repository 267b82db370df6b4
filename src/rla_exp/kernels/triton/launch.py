"""The passes: which kernel runs after which, on which buffers."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from rla_exp.kernels.options import Options
from rla_exp.kernels.triton.assembler import use_installed_assembler
from rla_exp.kernels.triton.call import Buffers, Call, Gradients, Operands, Saved
from rla_exp.kernels.triton.forward import forward_kernel
from rla_exp.kernels.triton.gradients import gradients_kernel
from rla_exp.kernels.triton.matrices import invert, make_matrices, make_rows
from rla_exp.kernels.triton.plan import CHECKPOINT_EVERY, MAX_EXACT_K
from rla_exp.kernels.triton.replay import replay_kernel
from rla_exp.kernels.triton.reverse import reverse_kernel
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

    def buffers() -> Buffers:
        return Buffers(scratch(K, V), scratch(K, V), scratch(C, V), scratch(C, V))

    in_one = call.tiles.reverse_in_one
    of_S = buffers()
    of_R = buffers() if in_one and switches.RESIDUAL else of_S
    written = scratch(C, V) if switches.DELTA else None  # by gradients, for itself
    d_prediction = scratch(C, V) if switches.RESIDUAL else None
    _, clip_inside, _ = call.clip_bounds

    assert saved.S is not None
    states = [_State(False, x.v, saved.S, dS, dbeta, *of_S)]
    if switches.RESIDUAL:
        assert saved.R is not None
        assert dR is not None
        assert dgamma is not None
        # first: what R was fed came from S
        states.insert(0, _State(True, x.v if saved.r is None else saved.r, saved.R, dR, dgamma, *of_R))

    def replay(state: _State, rows: Tensor) -> None:
        tile = call.tiles.replay
        replay_kernel[call.blocks(tile.BV), every_chunk, H](
            x.k,
            state.values,
            rows,
            saved.inverses,
            state.checkpoints,
            state.before,
            state.reads,
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
                state.after,
                state.solved,
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
        tile = call.tiles.gradients_R if state.second else call.tiles.gradients_S
        loads = call.loads(tile)
        gradients_kernel[every_chunk, H](
            x.q,
            x.k,
            loads.values(state.values),
            loads.values(do),
            rows,
            saved.inverses,
            loads.blocks(state.before),
            loads.blocks(state.after),
            loads.blocks(state.reads) if reads_state(state) else None,
            loads.blocks(state.solved),
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

    for start, length in slices:
        where = call.slice(start, length)
        every_chunk = chunking.num_rows(length)
        if in_one:
            from rla_exp.kernels.triton.hopper import launch as hopper

            rows = make_rows(call, start, length)
            for state in states:
                replay(state, rows)
            hopper.reverse(call, saved, (start, length), rows, do, dS, dR, of_S, of_R, dv)
            for state in states:
                gradients(state, rows)
        else:
            rows, matrices = make_matrices(call, saved.inverses, start, length)
            for state in states:
                replay(state, rows)
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
    before: Tensor
    after: Tensor
    reads: Tensor
    solved: Tensor


def _scratch_bytes(call: Call) -> int:
    """Of a chunk of all heads in the backward pass, the gates' rows left out."""
    x, C = call.x, call.tiles.C
    *_, K, V = call.state_shape
    switches, in_one = call.switches, call.tiles.reverse_in_one
    matrices = 0 if in_one else switches.matrix_slots()["NUM_MATRICES"] * C * C
    # those of R stay until both states' gradients are carried on
    buffers = (1 + (in_one and switches.RESIDUAL)) * (2 * K * V + 2 * C * V)
    tiles = (switches.RESIDUAL + switches.DELTA) * C * V
    return call.num_heads * x.q.element_size() * (matrices + buffers + tiles)


ALL_CHUNKS = 2**20  # chunks of a batch, where none needs to end
CHAIN = ("DELTA", "RESIDUAL", "FIT", "CLIPPED", "SUM")
