"""The passes of a call by the kernels for Hopper."""

from __future__ import annotations

from dataclasses import asdict

from torch import Tensor
from triton.experimental.gluon.language import NVMMASharedLayout
from triton.experimental.gluon.nvidia.hopper import TensorDescriptor

from rla_exp.kernels.triton.call import Buffers, Call, Carried, Saved
from rla_exp.kernels.triton.hopper.forward.kernel import fused_forward_kernel
from rla_exp.kernels.triton.hopper.gradients.kernel import fused_gradients_kernel
from rla_exp.kernels.triton.hopper.reverse.kernel import fused_reverse_kernel
from rla_exp.kernels.triton.plan import CHECKPOINT_EVERY
from rla_exp.kernels.triton.tiles import gpu_of

TILE = NVMMASharedLayout(swizzle_byte_width=128, element_bitwidth=16)
C, BV = 64, 64


def forward(
    call: Call,
    S: Carried | None,
    R: Carried | None,
    values: Tensor,
    o: Tensor,
    r: Tensor | None,
    rows: Tensor,
    inverses: Tensor | None,
    rest: Tensor | None,
    segments: tuple[int, int],
) -> None:
    """Carries both states side by side, or one of them, and fills o.

    Args:
        call: of whole chunks and heads of K = 128, in 16 bits (`tiles.may_describe`).
        S: its pass reads `values` and leaves r. None: it is in o and r already.
        R: None: not carried. Without S its pass reads `values`, r that is, and adds to o.
        values: [B, T, H, V].
        r: [B, T, H, V], where the pass of S leaves it; None: nowhere.
        rest: what rounding took of the inverted systems of S (`matrices.invert`).
        segments: (P, LP) into which a sequence is cut (`Chunking.segments`).
    """
    x, H = call.x, call.num_heads
    N, _, K, V = call.state_shape
    clip, clip_inside, clip_outside = call.clip_bounds
    P, LP = segments
    initial_S, final_S, checkpoints_S = S or (None, None, None)
    initial_R, final_R, checkpoints_R = R or (None, None, None)
    fused_forward_kernel[V // BV, N * P * H](
        _tokens(x.q, K),
        _tokens(x.k, K),
        _tokens(values, BV),
        _matrices(inverses),
        None if S is None else _matrices(rest),
        None if S is None or r is None else _tokens(r, BV),
        _tokens(o, BV),
        rows,
        initial_S,
        initial_R,
        final_S,
        final_R,
        checkpoints_S,
        checkpoints_R,
        call.chunking.num_tokens,
        P,
        LP,
        H,
        call.scale,
        clip,
        clip_inside,
        clip_outside,
        V=V,
        FIRST=S is not None,
        SECOND=R is not None,
        # of two numbers of the dtype
        BETWEEN=clip != clip_inside,
        HAS_S=initial_S is not None,
        HAS_R=initial_R is not None,
        KEEP=checkpoints_S is not None or checkpoints_R is not None,
        REST=S is not None and rest is not None,
        **asdict(call.switches),
        num_warps=4,
    )


class Reverse:
    """The gradients that both states carry, slice by slice: descriptors are made once."""

    def __init__(
        self,
        call: Call,
        saved: Saved,
        do: Tensor,
        dS: Tensor,
        dR: Tensor | None,
        of_S: Buffers,
        of_R: Buffers,
        dv: Tensor,
    ) -> None:
        """For a call as above, whose backward pass is not cut into segments.

        Args:
            dS: of the final S, and dR of the final R; in place those before each slice.
            of_S: its buffers, and (of_R) those of R, where there is one.
        """
        *_, K, _ = call.state_shape
        second = call.switches.RESIDUAL
        self._call = call
        self._tiles = (
            _tokens(call.x.q, K),
            _tokens(call.x.k, K),
            _tokens(do, BV),
            _tokens(saved.r, BV) if call.switches.CLIPPED and saved.r is not None else None,
            _matrices(saved.inverses),
            _blocks(of_S.after),
            _blocks(of_R.after) if second else None,
            _blocks(of_S.solved),
            _blocks(of_R.solved) if second else None,
            _tokens(dv, BV),
        )
        self._states = (dS, dR)

    def launch(self, rows: Tensor, start: int, length: int) -> None:
        """Fills after, solved and dv of a slice."""
        call = self._call
        N, H, _, V = call.state_shape
        fused_reverse_kernel[V // BV, N * H](
            *self._tiles,
            rows,
            *self._states,
            call.chunking.num_tokens,
            start,
            length,
            H,
            call.scale,
            call.clip_bounds[1],
            V=V,
            **asdict(call.switches),
            num_warps=4,
        )


class GradientsOfState:
    """Of q, k and the gates through S, or through R (second), slice by slice: descriptors are made once."""

    def __init__(
        self,
        call: Call,
        inverses: Tensor | None,
        do: Tensor,
        values: Tensor,
        checkpoints: Tensor,
        buffers: Buffers,
        d_prediction: Tensor | None,
        gradients: tuple[Tensor, Tensor, Tensor, Tensor],
        *,
        second: bool,
    ) -> None:
        """For a call as above, cut into segments or not, with V of 64 or 128.

        Args:
            values: what the state was fed.
            checkpoints: of the state.
            buffers: of the state, filled by the passes before.
            d_prediction: R leaves it, S takes it; None where S predicts nothing.
            gradients: of q, k, g and beta (gamma), to which S adds what R left.
        """
        *_, K, V = call.state_shape
        dq, dk, self._dg, self._d_strength = gradients
        self._call = call
        self._second = second
        self._checkpoints = checkpoints
        self._tiles = (
            _tokens(call.x.q, K),
            _tokens(call.x.k, K),
            _tokens(do, V),
            _tokens(values, V),
            _matrices(inverses),
            _rows(buffers.solved),
            _rows(buffers.after),
            None if d_prediction is None else _rows(d_prediction),
            _tokens(dq, K),
            _tokens(dk, K),
        )

    def launch(self, rows: Tensor, start: int, length: int) -> None:
        """Of the chunks of a slice."""
        call = self._call
        *_, T, J0, LS, H = call.slice(start, length)
        heads = call.chunking.num_sequences * H
        processors = gpu_of(call.x.q.device).num_processors
        span = choose_span(LS, heads, processors)
        units = -(-LS // span)
        fused_gradients_kernel[(min(units * heads, processors),)](
            *self._tiles,
            self._checkpoints,
            rows,
            self._dg,
            self._d_strength,
            units * heads,
            T,
            J0,
            LS,
            H,
            span,
            units,
            call.scale,
            call.clip_bounds[1],
            V=call.state_shape[-1],
            SECOND=self._second,
            **asdict(call.switches),
            num_warps=4,
        )


REPLAYED = 0.35
"""The time of a chunk over which a state is only carried, of that of one with gradients."""


def choose_span(chunks: int, num_heads: int, num_processors: int) -> int:
    """Chunks that a program of the gradients' kernel takes at a time, of `chunks` of each of so many heads.

    From one checkpoint to the next, for the state is carried from there; fewer where that leaves multiprocessors idle,
    although those before them are then gone over more than once.
    """

    def time(span: int) -> float:
        rounds = -(-num_heads * -(-chunks // span) // num_processors)
        return rounds * (span + REPLAYED * (CHECKPOINT_EVERY - span))

    return min((CHECKPOINT_EVERY // parts for parts in (1, 2, 4, 8)), key=time)


def _tokens(x: Tensor, columns: int) -> TensorDescriptor:
    """q, k, v, r or o [B, T, H, D], a chunk's tokens of some columns at a time."""
    H, D = x.shape[-2:]
    return _describe(x, H * D, columns)


def _matrices(x: Tensor | None) -> TensorDescriptor | None:
    """[.., C, C], whole."""
    return None if x is None else _describe(x, C, C)


def _blocks(x: Tensor) -> TensorDescriptor:
    """[.., rows, V], all rows of some columns at a time."""
    rows, V = x.shape[-2:]
    return _describe(x, V, BV, rows)


def _rows(x: Tensor) -> TensorDescriptor:
    """[.., rows, V], all columns of 64 rows at a time."""
    V = x.shape[-1]
    return _describe(x, V, V)


def _describe(x: Tensor, row: int, columns: int, rows: int = C) -> TensorDescriptor:
    # an address that the copy engine does not take is that of a slice which happens to be contiguous
    x = x if x.data_ptr() % 16 == 0 else x.clone()
    return TensorDescriptor(x, [x.numel() // row, row], [row, 1], [rows, columns], TILE)
