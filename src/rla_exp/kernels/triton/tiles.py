"""Block sizes, warps and stages of each kernel, by the shape of the call. Chosen on an H100: docs/journal.md."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import torch

from rla_exp.kernels.triton.assembler import assembler_version
from rla_exp.kernels.triton.plan import CHECKPOINT_EVERY

BLOCK = 16
"""Rows of the blocks that a chunk is taken apart into where its system is inverted."""

RIGHT_PTXAS = (13, 3)
"""From here on ptxas compiles unpipelined loads of the forward kernel rightly on Hopper."""


@dataclass(frozen=True)
class Tile:
    """How one kernel is compiled: columns of V in a block, warps, stages of its pipelined loads."""

    BV: int
    num_warps: int
    num_stages: int
    described: bool = False
    """Whether what it loads in its loop comes as descriptors."""

    def launch(self) -> dict[str, int]:
        """As keyword arguments of a launch."""
        return {"BV": self.BV, "num_warps": self.num_warps, "num_stages": self.num_stages}


@dataclass(frozen=True)
class Tiles:
    """The choices for one call."""

    C: int
    inverses_warps: int
    inverses_stages: int
    prepare_warps: int
    forward: Tile
    replay: Tile
    reverse_S: Tile  # noqa: N815
    reverse_R: Tile  # noqa: N815
    gradients_S: Tile  # noqa: N815
    gradients_R: Tile  # noqa: N815
    combine: Tile
    segments: int = 1
    """At most so many into which the forward pass cuts each sequence, to run side by side."""
    reverse_segments: int = 1
    """The backward pass, each slice of a sequence."""
    forward_on_hopper: bool = False
    """Whether the forward pass is the kernel for Hopper (hopper/forward/), of S and R, or in segments of one."""
    reverse_on_hopper: bool = False
    """Whether the reverse pass is the one for Hopper (hopper/reverse/), which carries their gradients."""
    gradients_on_hopper: bool = False
    """Whether those of q, k and the gates come from the kernel for Hopper (hopper/gradients/)."""


def chunk_size(dtype: torch.dtype) -> int:
    """C: shorter for float32, whose matrices fill shared memory twice as fast."""
    return 32 if dtype == torch.float32 else 64


def choose_tiles(
    dtype: torch.dtype,
    K: int,
    V: int,
    *,
    delta: bool,
    predicted: bool,
    num_heads: int,
    num_tokens: int,
    describable: bool,
    gpu: Gpu,
) -> Tiles:
    """For heads of K and V columns (padded to powers of two).

    Args:
        delta: by the delta rule, whose passes have more products.
        predicted: R is fed what S predicted, so that the passes over S load more.
        num_heads: heads of all sequences together, each a chain of chunks.
        num_tokens: of each sequence; 0: they differ, and are not cut.
        describable: whether `may_describe` says so.
    """
    C = chunk_size(dtype)
    segments = reverse_segments = 1
    if may_cut(K, num_heads=num_heads, num_tokens=num_tokens):
        chunks = -(-num_tokens // C)
        programs = num_heads * -(-V // (16 if dtype == torch.float32 else 64))
        segments = choose_segments(chunks, programs, gpu, MIN_ROOM)
        reverse_segments = choose_segments(chunks, programs, gpu, MIN_ROOM_BACKWARD if delta else MIN_ROOM)
    if dtype == torch.float32:
        narrow = Tile(min(V, 16), 8, 1)
        return Tiles(C, 4, 1, 8, *(narrow,) * 7, segments, reverse_segments)
    # loads that are two chunks ahead, where shared memory holds them
    ahead = K <= 128 and gpu.shared_memory >= 220 * 1024
    stages = 3 if ahead else 2 if gpu.must_pipeline and K <= 128 else 1
    # few chains: more and narrower programs, where segments do not bring them
    few = num_heads * -(-V // 64) * 2 <= gpu.num_processors
    BV, reverse_BV = (
        min(V, 64 if ahead and not (few and count == 1) else 32) for count in (segments, reverse_segments)
    )
    # four warps hold the sums, two programs share a multiprocessor; by the additive rule, which multiplies less, one of
    # eight warps with wider blocks is faster where tiles are not described, by the delta rule no choice of eight is
    described = describable and gpu.has_descriptors
    gradients = Tile(min(V, 32), 4 if K <= 128 else 8, 3 if ahead else 2, described)
    if not delta and 64 < K <= 128 and not described:
        gradients = Tile(min(V, 64 if ahead else 32), 8, 2)
    # what it needs of the prediction leaves room for a third stage only where no addresses are worked out
    reverse_S_stages = min(stages, 2) if predicted and reverse_BV > 32 and not described else stages
    return Tiles(
        C=C,
        # products of 16 rows that follow one another: more warps would wait for each other
        inverses_warps=1,
        inverses_stages=3,
        prepare_warps=4,
        forward=Tile(BV, 4, stages, described),
        replay=Tile(min(V, 64), 4, 2),
        reverse_S=Tile(reverse_BV, 4, reverse_S_stages, described),
        reverse_R=Tile(reverse_BV, 4, stages, described),
        gradients_S=gradients,
        gradients_R=gradients,
        combine=Tile(min(V, 16), 4, 3 if ahead else 2),
        segments=segments,
        reverse_segments=reverse_segments,
        forward_on_hopper=described and gpu.runs_gluon,
        reverse_on_hopper=described and reverse_segments == 1 and gpu.runs_gluon,
        # wider ones do not fit into shared memory
        gradients_on_hopper=described and gpu.runs_gluon and V <= 128,
    )


MIN_CUT_TOKENS = 4096
MAX_CUT_HEADS = 32
"""More fill the multiprocessors of any GPU."""
MAX_CUT_K = 128
"""What a segment does to the state, K x K, must fit into shared memory with the next one's."""
MIN_SEGMENTS = 4
"""Two lose."""
MIN_ROOM = 4
"""Multiprocessors a program of the uncut pass: with fewer, narrow programs use the GPU about as well."""
MIN_ROOM_BACKWARD = 8
"""The same of the delta rule backward, where finding what a segment does costs more."""


def may_cut(K: int, *, num_heads: int, num_tokens: int) -> bool:
    """Whether some GPU cuts sequences of this length, of so many heads together, into segments."""
    if K <= MAX_CUT_K and num_heads <= MAX_CUT_HEADS and num_tokens >= MIN_CUT_TOKENS:  # noqa: SIM103
        return True  # the comparison itself would be a symbol where torch.compile's sizes are
    return False


def choose_segments(chunks: int, programs: int, gpu: Gpu, min_room: int) -> int:
    """Into how many segments each sequence of `chunks` is cut, where uncut there are `programs`.

    As many as multiprocessors hold at a time, a program each, and none shorter than from checkpoint to checkpoint. A
    pass in segments does part of its work twice, once to find what each does to the state: it gains where the uncut
    one leaves most of the GPU idle. Measured on an H100 (docs/journal.md).
    """
    room = gpu.num_processors // programs
    segments = min(room, -(-chunks // CHECKPOINT_EVERY))
    return segments if room >= min_room and segments >= MIN_SEGMENTS else 1


def may_describe(dtype: torch.dtype, *, K: int, V: int, num_tokens: int) -> bool:
    """Whether some GPU loads such a call's tiles by descriptor: 16 bits, whole chunks, heads that gain by it.

    Of narrower heads the passes gain less than making descriptors takes.

    Args:
        num_tokens: of each sequence; 0: they differ.
    """
    if dtype == torch.float32 or K != 128 or V not in (64, 128, 256):
        return False
    if num_tokens > 0 and num_tokens % chunk_size(dtype) == 0:  # noqa: SIM103
        return True  # a symbol otherwise, as in may_cut
    return False


MIN_COLUMNS = 16
"""Of a block: the least that a product takes."""


def candidates(usual: Tiles) -> list[Tiles]:
    """The usual choice, first, and what else is worth timing for a shape. Few: each is compiled and checked.

    The passes along the sequence with narrower blocks, with wider ones, or with loads one chunk ahead and not two,
    which leaves shared memory for a second program; gradients with eight warps instead of four, or four.
    """
    BV, stages = usual.forward.BV, usual.forward.num_stages
    if BV == MIN_COLUMNS:
        # float32, which has no room for more
        return [usual]
    found = [usual, _chains(usual, BV // 2, stages)]
    # replay has the widest block that V fills and registers hold
    if 2 * BV <= usual.replay.BV:
        found.append(_chains(usual, 2 * BV, stages))
    else:
        found.append(_chains(usual, BV // 2, 2))
    found.append(_chains(usual, BV, 2))
    if not usual.gradients_on_hopper:
        S, R = usual.gradients_S, usual.gradients_R
        found.append(replace(usual, gradients_S=_other_warps(S), gradients_R=_other_warps(R)))
    return list(dict.fromkeys(found))


def _other_warps(tile: Tile) -> Tile:
    """Eight warps instead of four, and one program a multiprocessor instead of two, or the other way round."""
    return replace(tile, num_warps=8) if tile.num_warps == 4 else replace(tile, BV=min(tile.BV, 32), num_warps=4)


def _chains(usual: Tiles, BV: int, stages: int) -> Tiles:
    """With other blocks and at most so many stages in the passes along the sequence."""

    def changed(tile: Tile, stages: int = stages) -> Tile:
        return replace(tile, BV=max(BV, MIN_COLUMNS), num_stages=min(tile.num_stages, stages))

    return replace(
        usual,
        # the kernels for Hopper have no choice, but for what finds what segments do
        forward=usual.forward if usual.forward_on_hopper and usual.segments == 1 else changed(usual.forward),
        # wide blocks leave no room for a third stage beside the prediction
        reverse_S=usual.reverse_S
        if usual.reverse_on_hopper
        else changed(usual.reverse_S, 2 if BV > usual.reverse_S.BV else stages),
        reverse_R=usual.reverse_R if usual.reverse_on_hopper else changed(usual.reverse_R),
    )


@dataclass(frozen=True)
class Gpu:
    """What the choice of tiles depends on."""

    num_processors: int
    """Streaming multiprocessors."""
    shared_memory: int
    """Bytes that a program may take."""
    must_pipeline: bool
    """Whether Triton's ptxas is one that miscompiles unpipelined loads."""
    has_descriptors: bool = False
    """Whether it is a Hopper GPU, on which kernels that load by descriptor were measured."""
    runs_gluon: bool = False
    """Whether it is one with a ptxas that leaves alone the registers which a product reads: the kernels for Hopper."""


@cache
def gpu_of(device: torch.device) -> Gpu:
    """Of a device; elsewhere, where Triton interprets or compiles ahead of time, a Hopper GPU."""
    import triton

    if device.type != "cuda":
        must_pipeline = assembler_version(90) < RIGHT_PTXAS
        return Gpu(132, 227 * 1024, must_pipeline, True, not must_pipeline and not triton.knobs.runtime.interpret)
    index = torch.cuda.current_device() if device.index is None else device.index
    found = triton.runtime.driver.active.utils.get_device_properties(index)
    major, minor = torch.cuda.get_device_capability(index)
    is_hopper = major == 9
    must_pipeline = assembler_version(10 * major + minor) < RIGHT_PTXAS
    runs_gluon = is_hopper and not must_pipeline
    return Gpu(found["multiprocessor_count"], found["max_shared_mem"], must_pipeline, is_hopper, runs_gluon)
