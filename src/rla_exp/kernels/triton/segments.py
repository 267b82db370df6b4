"""A pass along the sequence, in segments side by side where a call has few heads (docs/kernels.md, "Few heads")."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from rla_exp.kernels.triton.call import Call
from rla_exp.kernels.triton.combine import combine_kernel
from rla_exp.kernels.triton.plan import block_size
from rla_exp.kernels.triton.tiles import Tile


class Launch(NamedTuple):
    """What a launch of a pass over all chains begins and ends with; a chain is a sequence, or a segment of one."""

    initial: Tensor | None
    """[chains, H, K, V] float32; None: zero."""
    final: Tensor
    maps: Tensor | None
    """Where this launch is to leave what each segment does to the state, and nothing else but that."""
    blocks: int
    """Programs of a head."""


def launches(
    call: Call, tile: Tile, initial: Tensor | None, final: Tensor, segments: int, *, backwards: bool
) -> Iterator[Launch]:
    """Of a pass from the states [N, H, K, V] that sequences begin with to those that they end with, perhaps in place.

    What is yielded is to be launched at once. With segments that is first what each does to the state, side by side,
    and then, each from the state that it really begins with, the pass itself.
    """
    blocks = call.blocks(tile.BV)
    if segments == 1:
        yield Launch(initial, final, None, blocks)
        return
    N, H, K, V = call.state_shape
    local, states = (final.new_empty((N * segments, H, K, V)) for _ in range(2))
    if call.switches.DELTA:
        maps = call.x.q.new_empty((N * segments, H, 1 if call.x.q.dtype == torch.float32 else 2, K, K))
        yield Launch(None, local, maps, blocks + -(-K // tile.BV))
    else:
        maps = final.new_empty((N * segments, H))
        yield Launch(None, local, maps, blocks)
    combine = call.tiles.combine
    combine_kernel[call.blocks(combine.BV), N * H](
        local,
        maps,
        initial,
        states,
        segments,
        H,
        K=K,
        V=V,
        BK=block_size(K),
        DELTA=call.switches.DELTA,
        BACKWARDS=backwards,
        HAS_INITIAL=initial is not None,
        PRECISION=call.precision,
        enable_fp_fusion=True,
        **combine.launch(),
    )
    yield Launch(states, states, None, blocks)
    final.copy_(states.view(N, segments, H, K, V)[:, 0 if backwards else -1])
