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
    merge: str
    """Precision of the products with an inverse, of 16-bit inputs."""
    forward: Tile
    replay: Tile
    reverse: Tile
    scores_warps: int
    gradients_rows: int
    gradients_warps: int


def choose_tiles(dtype: torch.dtype, BV: int) -> Tiles:
    """For values of BV columns (a power of two)."""
    if dtype == torch.float32:
        narrow = min(BV, 16)
        return Tiles(
            C=32,
            prepare_warps=4,
            merge="ieee",
            forward=Tile(narrow, 4, 1),
            replay=Tile(narrow, 4, 1),
            reverse=Tile(narrow, 4, 1),
            scores_warps=8,
            gradients_rows=32,
            gradients_warps=8,
        )
    narrow = min(BV, 32)
    return Tiles(
        C=64,
        prepare_warps=4,
        merge="tf32",
        # (32, 4, 1) is miscompiled by the ptxas 12.8 that Triton 3.6 brings: wrong numbers or illegal accesses
        forward=Tile(64, 8, 1) if BV >= 64 else Tile(BV, 4, 2),
        replay=Tile(narrow, 4, 1),
        reverse=Tile(narrow, 4, 1),
        scores_warps=4 if BV <= 64 else 8,
        gradients_rows=64,
        gradients_warps=4,
    )
