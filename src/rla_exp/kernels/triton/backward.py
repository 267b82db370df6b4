"""The backward pass: which kernel runs after which, on which buffers."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rla_exp.kernels.options import Options
from rla_exp.kernels.triton.call import Call, Gradients, Operands, Saved
from rla_exp.kernels.triton.gradients import gradients_kernel
from rla_exp.kernels.triton.launch import ALL_CHUNKS, CHAIN
from rla_exp.kernels.triton.matrices import make_matrices
from rla_exp.kernels.triton.passed_back import passed_back_kernel
from rla_exp.kernels.triton.plan import CHECKPOINT_EVERY
from rla_exp.kernels.triton.replay import replay_kernel
from rla_exp.kernels.triton.reverse import reverse_kernel
from rla_exp.kernels.triton.segments import launches
from rla_exp.kernels.triton.tiles import Tiles


@dataclass(frozen=True)
class StateBuffers:
    """What the backward pass of S, or of R (second), works on; what holds chunks is for those of a slice at a time."""

    second: bool
    values: Tensor
    """[B, T, H, V]: what it was fed."""
    checkpoints: Tensor
    gradient: Tensor
    d_strength: Tensor
    before: Tensor
    """[chunks, H, K, V]: the state before each chunk."""
    after: Tensor
    """[chunks, H, K, V]: its gradient after each."""
    reads: Tensor | None
    """[chunks, H, C, V]: what it holds at k, where that is needed."""
    solved: Tensor
    """[chunks, H, C, V]: the transposed systems' solutions."""


@dataclass(frozen=True)
class _Pass:
    """A slice of chunks on its way back."""

    call: Call
    inverses: Tensor | None
    do: Tensor
    rows: Tensor
    matrices: Tensor
    d_prediction: Tensor | None
    start: int
    length: int

    @property
    def num_chunks(self) -> int:
        """Of all sequences."""
        return self.call.chunking.num_rows(self.length)

    def replay(self, state: StateBuffers) -> None:
        """Fills before and reads."""
        call = self.call
        tile = call.tiles.replay
        replay_kernel[call.blocks(tile.BV), self.num_chunks, call.num_heads](
            call.x.k,
            state.values,
            self.rows,
            self.inverses,
            state.checkpoints,
            state.before,
            state.reads,
            *call.slice(self.start, self.length),
            call.clip_bounds[1],
            EVERY=CHECKPOINT_EVERY,
            SECOND=state.second,
            READ=state.reads is not None,
            **call.constants(("DELTA", "RESIDUAL", "CLIPPED")),
            **tile.launch(),
        )

    def reverse(self, state: StateBuffers, dv: Tensor) -> None:
        """Fills after and solved; takes the gradient of the state through the slice."""
        call, chunking, H = self.call, self.call.chunking, self.call.num_heads
        N = call.state_shape[0]
        P, LP = chunking.segments(self.length, call.tiles.reverse_segments)
        tile = call.tiles.reverse_R if state.second else call.tiles.reverse_S
        for launch in launches(call, tile, state.gradient, state.gradient, P, backwards=True):
            loads = call.loads(tile, effect=launch.maps is not None)
            reverse_kernel[launch.blocks, N * P * H](
                loads.qk(call.x.q),
                loads.qk(call.x.k),
                loads.values(self.do),
                self.rows,
                loads.matrices(self.inverses),
                loads.matrices(self.matrices),
                launch.final,
                launch.maps,
                state.after,
                state.solved,
                None if state.second else loads.blocks(self.d_prediction),
                dv,
                chunking.cu_seqlens,
                chunking.cu_chunks,
                chunking.num_tokens,
                self.start,
                self.length,
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

    def pass_back(self, state: StateBuffers) -> None:
        """Fills d_prediction, from R."""
        call = self.call
        tile = call.tiles.replay
        constants = call.constants(("CLIPPED",))
        for name in ("K", "BK", "PRECISION"):
            del constants[name]
        passed_back_kernel[call.blocks(tile.BV), self.num_chunks, call.num_heads](
            state.values,
            self.rows,
            state.solved,
            self.d_prediction,
            *call.slice(self.start, self.length),
            call.clip_bounds[1],
            BV=tile.BV,
            **constants,
        )

    def gradients(self, state: StateBuffers, written: Tensor | None, dq: Tensor, dk: Tensor, dg: Tensor) -> None:
        """Fills the gradients of q, k and the gates; those of R also d_prediction."""
        call = self.call
        tile = call.tiles.gradients_R if state.second else call.tiles.gradients_S
        loads = call.loads(tile)
        gradients_kernel[self.num_chunks, call.num_heads](
            call.x.q,
            call.x.k,
            loads.values(state.values),
            loads.values(self.do),
            self.rows,
            self.inverses,
            loads.blocks(state.before),
            loads.blocks(state.after),
            loads.blocks(state.reads),
            loads.blocks(state.solved),
            # R leaves it, S takes it
            self.d_prediction if state.second else loads.blocks(self.d_prediction) if call.switches.FIT else None,
            written,
            dq,
            dk,
            dg,
            state.d_strength,
            *call.slice(self.start, self.length),
            call.scale,
            call.clip_bounds[1],
            SECOND=state.second,
            TMA=loads.described,
            # for what only sums of rows take
            STAGES=tile.num_stages if loads.described else None,
            **call.constants((*CHAIN, "DECAYED", "NORMALIZE")),
            **tile.launch(),
        )


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
    *_, K, V = call.state_shape
    in_one = call.tiles.gradients_in_one
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

    def buffers() -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return scratch(K, V), scratch(K, V), scratch(C, V), scratch(C, V)

    before, after, reads, solved = buffers()
    # by gradients, for itself
    written = scratch(C, V) if switches.DELTA and not in_one else None
    d_prediction = scratch(C, V) if switches.RESIDUAL else None
    reads_S = switches.DELTA or (switches.FIT and not in_one)

    assert saved.S is not None
    states = [StateBuffers(False, x.v, saved.S, dS, dbeta, before, after, reads if reads_S else None, solved)]
    if switches.RESIDUAL:
        assert saved.R is not None
        assert dR is not None
        assert dgamma is not None
        values = x.v if saved.r is None else saved.r
        if in_one:
            before, after, reads, solved = buffers()
        reads_R = reads if switches.DELTA else None
        # first: what R was fed came from S
        states.insert(0, StateBuffers(True, values, saved.R, dR, dgamma, before, after, reads_R, solved))

    gradients_in_one = None
    if in_one:
        from rla_exp.kernels.triton.hopper.launch import Gradients as GradientsInOne

        gradients_in_one = GradientsInOne(call, saved.inverses, do, states[::-1], dq, dk, dg)
    for start, length in slices:
        rows, matrices = make_matrices(call, saved.inverses, start, length)
        chunks = _Pass(call, saved.inverses, do, rows, matrices, d_prediction, start, length)
        for state in states:
            chunks.replay(state)
            chunks.reverse(state, dv)
            if gradients_in_one is None:
                chunks.gradients(state, written, dq, dk, dg)
            elif state.second:
                chunks.pass_back(state)
        if gradients_in_one is not None:
            gradients_in_one.launch(rows, start, length)
    return Gradients(dq, dk, dv, dg, dbeta, dgamma, dS, dR)


def _scratch_bytes(call: Call) -> int:
    """Of a chunk of all heads in the backward pass, the gates' rows left out."""
    x, C = call.x, call.tiles.C
    switches = call.switches
    *_, K, V = call.state_shape
    matrices = switches.matrix_slots()["NUM_MATRICES"] * C * C
    if call.tiles.gradients_in_one:
        states, tiles = 1 + switches.RESIDUAL, 2 * (1 + switches.RESIDUAL) + switches.RESIDUAL
    else:
        states, tiles = 1, 2 + switches.RESIDUAL + switches.DELTA
    return call.num_heads * x.q.element_size() * (matrices + states * 2 * K * V + tiles * C * V)
