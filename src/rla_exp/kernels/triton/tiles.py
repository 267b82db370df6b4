"""Block sizes, warps and stages of each kernel, by the shape of the call. Chosen on an H200: docs/journal.md."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch

RIGHT_PTXAS = (13, 3)
"""From here on ptxas compiles unpipelined loads of the forward kernel rightly on Hopper."""


@dataclass(frozen=True)
class Tile:
    """How one kernel is compiled: columns of V in a block, warps, stages of its pipelined loads."""

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
    """Precision of the products with an inverse."""
    forward: Tile
    replay: Tile
    reverse: Tile
    scores: Tile
    gradients: Tile
    gradients_BK: int  # noqa: N815
    """Columns of K in a block of the gradients of q and k."""


def chunk_size(dtype: torch.dtype) -> int:
    """C: shorter for float32, whose matrices fill shared memory twice as fast."""
    return 32 if dtype == torch.float32 else 64


def choose_tiles(dtype: torch.dtype, K: int, V: int, *, num_heads: int, num_processors: int, pipelined: bool) -> Tiles:
    """For heads of K and V columns (padded to powers of two).

    Args:
        num_heads: heads of all sequences together, each a chain of chunks.
        num_processors: of the GPU.
        pipelined: the passes along the chain must load with cp.async (an old ptxas miscompiles the other form).
    """
    C = chunk_size(dtype)
    if dtype == torch.float32:
        narrow = Tile(min(V, 16), 8, 1)
        return Tiles(C, 8, "ieee", narrow, narrow, narrow, narrow, narrow, min(K, 32))
    # a chain cannot be cut along the sequence, but along V: with few heads more and narrower programs
    few = num_heads * -(-V // 32) <= num_processors
    # two stages of keys wider than 128 do not fit into shared memory
    stages = 2 if (few or pipelined) and K <= 128 else 1
    chain = Tile(min(V, 16 if few else 32), 4, stages)
    return Tiles(
        C=C,
        prepare_warps=4,
        # bf16 operands are 30 percent faster, but a near-collinear chunk loses too much, and they raced on Hopper
        merge="tf32",
        forward=chain,
        replay=Tile(min(V, 64), 4, 2),
        reverse=chain,
        scores=Tile(min(V, 32), 8, 2),
        gradients=Tile(min(V, 32), 8, 2),
        gradients_BK=min(K, 128),
    )


@cache
def must_pipeline() -> bool:
    """Whether Triton's ptxas is one that miscompiles unpipelined loads."""
    import triton

    version = str(triton.knobs.nvidia.ptxas.version)
    return tuple(int(part) for part in version.split(".")[:2]) < RIGHT_PTXAS


@cache
def num_processors(device: torch.device) -> int:
    """Streaming multiprocessors; of a CPU, where Triton interprets, 1."""
    if device.type != "cuda":
        return 1
    return int(torch.cuda.get_device_properties(device).multi_processor_count)
