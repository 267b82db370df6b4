"""Block sizes, warps and stages of each kernel, by the shape of the call."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Tile:
    """How one kernel is compiled: columns of V in a program, warps, stages of its pipelined loads."""

    BV: int
    num_warps: int
    num_stages: int

    def launch(self) -> dict[str, int]:
        """As keyword arguments of a launch."""
        return {"BV": self.BV, "num_warps": self.num_warps, "num_stages": self.num_stages}


@dataclass(frozen=True)
class Tiles:
    """The choices for one call."""

    C: int
    prepare_warps: int
    forward: Tile
    replay: Tile
    reverse: Tile
    gradients: Tile


def choose_tiles(dtype: torch.dtype, BK: int, BV: int) -> Tiles:
    """For heads of BK and BV columns (powers of two)."""
    if dtype == torch.float32:
        narrow = min(BV, 16)
        return Tiles(
            C=32,
            prepare_warps=4,
            forward=Tile(narrow, 4, 1),
            replay=Tile(narrow, 4, 1),
            reverse=Tile(narrow, 4, 1),
            gradients=Tile(narrow, 8, 1),
        )
    narrow = min(BV, 32)
    return Tiles(
        C=64,
        prepare_warps=4,
        forward=Tile(narrow, 4, 1),
        replay=Tile(narrow, 4, 1),
        reverse=Tile(narrow, 4, 1),
        gradients=Tile(min(BV, 64 if BK <= 128 else 32), 8, 1),
    )
