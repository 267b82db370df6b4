"""The kernels for Hopper as they are launched for a call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from torch import Tensor
from triton.experimental.gluon.language import NVMMASharedLayout
from triton.experimental.gluon.nvidia.hopper import TensorDescriptor

from rla_exp.kernels.triton.call import Call
from rla_exp.kernels.triton.hopper.forward import fused_forward_kernel
from rla_exp.kernels.triton.hopper.gradients import fused_gradients_kernel
from rla_exp.kernels.triton.matrices import invert, make_rows
from rla_exp.kernels.triton.tiles import gpu_of

if TYPE_CHECKING:
    from rla_exp.kernels.triton.backward import StateBuffers

TILE = NVMMASharedLayout(swizzle_byte_width=128, element_bitwidth=16)
C, BV = 64, 64


def forward(
    call: Call,
    S: Tensor | None,
    R: Tensor | None,
    o: Tensor,
    r: Tensor | None,
    final_S: Tensor,
    final_R: Tensor | None,
    checkpoints_S: Tensor | None,
    checkpoints_R: Tensor | None,
) -> Tensor | None:
    """Fills o, the final states and, where there are checkpoints, them and r; returns the inverted systems.

    Args:
        call: of whole chunks and heads of K = 128, in 16 bits (`tiles.may_describe`).
    """
    x, switches, H = call.x, call.switches, call.num_heads
    N, _, K, V = call.state_shape
    inverses, rest = invert(call)
    rows = make_rows(call)
    keep = checkpoints_S is not None
    clip, clip_inside, clip_outside = call.clip_bounds
    fused_forward_kernel[V // BV, N * H](
        _tokens(x.q, K),
        _tokens(x.k, K),
        _tokens(x.v, BV),
        _matrices(inverses),
        _matrices(rest),
        None if r is None else _tokens(r, BV),
        _tokens(o, BV),
        rows,
        S,
        R,
        final_S,
        final_R,
        checkpoints_S,
        checkpoints_R,
        call.chunking.num_tokens,
        H,
        call.scale,
        clip,
        clip_inside,
        clip_outside,
        V=V,
        DELTA=switches.DELTA,
        RESIDUAL=switches.RESIDUAL,
        FIT=switches.FIT,
        CLIPPED=switches.CLIPPED,
        # of two numbers of the dtype
        BETWEEN=clip != clip_inside,
        SUM=switches.SUM,
        DECAYED=switches.DECAYED,
        NORMALIZE=switches.NORMALIZE,
        HAS_S=S is not None,
        HAS_R=R is not None,
        KEEP=keep,
        REST=rest is not None,
        num_warps=4,
    )
    return inverses


class Gradients:
    """The gradients of q, k and the gates of a call, slice by slice; descriptors are made once."""

    def __init__(
        self,
        call: Call,
        inverses: Tensor | None,
        do: Tensor,
        states: Sequence[StateBuffers],
        dq: Tensor,
        dk: Tensor,
        dg: Tensor,
    ) -> None:
        """Args: states: S and, with a residual, R."""
        self.call = call
        *_, K, V = call.state_shape
        S = states[0]
        R = states[1] if len(states) > 1 else None

        def both(describe: Callable[[StateBuffers], TensorDescriptor | None]) -> list[TensorDescriptor | None]:
            return [describe(S), None if R is None else describe(R)]

        self._tiles = (
            _tokens(call.x.q, K),
            _tokens(call.x.k, K),
            _tokens(do, V),
            _tokens(S.values, V),
            _tokens(R.values, V) if R is not None and call.switches.FIT else None,
            _matrices(inverses),
            *both(lambda state: _blocks(state.solved)),
            *both(lambda state: _blocks(state.reads)),
            *both(lambda state: _blocks(state.before)),
            *both(lambda state: _blocks(state.after)),
            _tokens(dq, K),
            _tokens(dk, K),
        )
        self._gates = dg, S.d_strength, None if R is None else R.d_strength

    def launch(self, rows: Tensor, start: int, length: int) -> None:
        """Of the chunks of a slice, from what the passes before left of them in the buffers."""
        call = self.call
        *_, T, J0, LS, H = call.slice(start, length)
        total = call.chunking.num_rows(length) * H
        switches = asdict(call.switches)
        fused_gradients_kernel[(min(total, gpu_of(call.x.q.device).num_processors),)](
            *self._tiles,
            rows,
            *self._gates,
            total,
            T,
            J0,
            LS,
            H,
            call.scale,
            call.clip_bounds[1],
            V=call.state_shape[-1],
            **switches,
            num_warps=4,
        )


def _tokens(x: Tensor, columns: int) -> TensorDescriptor:
    """q, k, v, r or o [B, T, H, D], a chunk's tokens of some columns at a time."""
    H, D = x.shape[-2:]
    return _describe(x, H * D, columns)


def _matrices(x: Tensor | None) -> TensorDescriptor | None:
    """[.., C, C], whole."""
    return None if x is None else _describe(x, C, C)


def _blocks(x: Tensor | None) -> TensorDescriptor | None:
    """[.., rows, V], 64 rows at a time."""
    return None if x is None else _describe(x, x.shape[-1], x.shape[-1])


def _describe(x: Tensor, row: int, columns: int) -> TensorDescriptor:
    # an address that the copy engine does not take is that of a slice which happens to be contiguous
    x = x if x.data_ptr() % 16 == 0 else x.clone()
    return TensorDescriptor(x, [x.numel() // row, row], [row, 1], [C, columns], TILE)
