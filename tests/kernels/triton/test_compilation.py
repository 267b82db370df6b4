"""Kernels compile ahead of time, without a GPU, and fit into the chips: registers without spills, shared memory.

conftest.py compiles; what concerns the kernel for Hopper alone is in test_hopper.py.
"""

from __future__ import annotations

import re
from itertools import product
from typing import TYPE_CHECKING

import pytest
import torch

from rla_exp.kernels.verify.cases import CANDIDATES, RDN

if TYPE_CHECKING:
    from conftest import Chip, Usage

pytest.importorskip("triton", reason="triton exists for Linux only")

from rla_exp.kernels.triton.combine import combine_kernel
from rla_exp.kernels.triton.convolution import convolve, convolve_backward
from rla_exp.kernels.triton.forward import forward_kernel
from rla_exp.kernels.triton.reverse import reverse_kernel

CAPABILITIES = (80, 90, 100)
# bytes of a thread's registers that do not fit, by chip and kernel; kernels not named do not spill. On sm_80 ptxas
# gives up on one kernel and keeps next to nothing in registers.
MAX_SPILLED_BYTES = {
    80: {"inverses": 160, "prepare": 664, "forward": 512, "reverse": 192, "gradients": 2376},
    90: {
        "inverses": 136,
        "fused_forward": 160,
        "fused_reverse": 160,
        "fused_gradients": 640,
        "forward": 392,
        "reverse": 192,
        "gradients": 448,
    },
    100: {"inverses": 192, "prepare": 40, "forward": 512, "replay": 192, "reverse": 520, "gradients": 296},
}


def products_that_run_into_loads(ttgir: str) -> list[str]:
    """Loads by descriptor, in loops, that are asked for while products run which may still read what they replace."""
    found: list[str] = []
    loops: list[tuple[int, list[str]]] = []
    for line in ttgir.splitlines():
        depth = len(line) - len(line.lstrip())
        if "scf.for" in line:
            loops.append((depth, []))
        elif loops and depth == loops[-1][0] and line.lstrip().startswith("}"):
            running = 0
            _, events = loops.pop()
            # what a turn leaves running, the next one finds
            for event in events * 2:
                if wait := re.search(r"warp_group_dot_wait.*pendings = (\d+)", event):
                    running = min(running, int(wait[1]))
                elif "warp_group_dot " in event:
                    running = running + 1 if "isAsync = true" in event else 0
                elif running:
                    found.append(event.strip())
        elif loops and ("warp_group_dot" in line or "async_tma_copy_global_to_local" in line):
            loops[-1][1].append(line)
    return found


def test_products_that_run_into_loads_are_found() -> None:
    """The guard itself: a product that is left running into the next turn's load, and one that is waited for."""
    load, wait = "    ttng.async_tma_copy_global_to_local %x", "    ttng.warp_group_dot_wait %a {pendings = 0 : i32}"
    product = "    %a = ttng.warp_group_dot %b, %c, %d {isAsync = true}"
    loop = "  scf.for %i = %0 to %n {{\n{}\n  }}"
    assert products_that_run_into_loads(loop.format("\n".join((load, product)))) == [load.strip()]
    assert not products_that_run_into_loads(loop.format("\n".join((load, product, wait))))


def assert_fits(chip: Chip, found: list[Usage]) -> None:
    """Into the chip, and where Triton itself lays out what runs while, nothing is loaded into what is being read."""
    chip.assert_fits(found, MAX_SPILLED_BYTES[chip.capability])
    for usage in found:
        # a kernel in Gluon says itself, by barriers between its groups of warps, when a place is free again: the order
        # of the lines within one group does not tell
        assert usage.is_gluon or not products_that_run_into_loads(usage.ttgir), usage.kernel


@pytest.mark.slow
@pytest.mark.parametrize("capability", CAPABILITIES)
def test_all_kernels_of_rdn(capability: int, chip: Chip) -> None:
    chip.of(capability)
    # with few heads programs take fewer columns; of whole chunks Hopper has kernels of its own, and describes tiles
    for num_sequences, num_tokens in ((1, 2048), (8, 2048), (8, 2000)) if capability == 90 else ((8, 2048),):
        chip.launch_sequence(RDN, 128, 128, torch.bfloat16, num_sequences=num_sequences, num_tokens=num_tokens)
    chip.launch_step(RDN, 128, 128, torch.bfloat16)
    found = chip.usages()
    names = {usage.kernel for usage in found}
    expected = {"forward", "gradients", "inverses", "prepare", "replay", "reverse", "step"}
    assert names == expected | (
        {"fused_forward", "fused_reverse", "fused_gradients", "rows"} if capability == 90 else set()
    )
    assert_fits(chip, found)


@pytest.mark.slow
def test_each_state_on_hopper(chip: Chip) -> None:
    """What an older assembler leaves to pass along the sequence, tiles described: its choices, few heads and many."""
    chip.of(90, runs_gluon=False)
    for num_sequences, candidate in product((1, 8), (0, *CANDIDATES)):
        chip.launch_sequence(RDN, 128, 128, torch.bfloat16, num_sequences=num_sequences, candidate=candidate)
    chip.launches = [launch for launch in chip.launches if launch.kernel in (forward_kernel, reverse_kernel)]
    found = chip.usages()
    # of S and of R: blocks of 16, 32 and 64 columns with three stages, of 32 and 64 with two
    assert sorted(usage.kernel for usage in found) == ["forward"] * 10 + ["reverse"] * 10
    assert_fits(chip, found)


@pytest.mark.slow
@pytest.mark.parametrize("capability", CAPABILITIES)
def test_the_convolution(capability: int, chip: Chip) -> None:
    chip.of(capability)
    x, dy = (torch.empty(8, 2048, 768, dtype=torch.bfloat16, device="meta") for _ in range(2))
    weight = torch.empty(768, 4, device="meta")
    convolve(x, weight, None, silu=True)
    convolve_backward(x, weight, None, dy, silu=True)
    found = chip.usages()
    assert {usage.kernel for usage in found} == {"convolve", "weight_gradient", "input_gradient"}
    assert_fits(chip, found)


@pytest.mark.slow
def test_candidates_for_the_tiles(chip: Chip) -> None:
    """What autotuning may choose on Hopper, with many heads and with few."""
    for V in (128, 256):
        chip.launches.clear()
        for num_sequences in (1, 8):
            chip.launch_sequence(RDN, 128, V, torch.bfloat16, num_sequences=num_sequences)
        usual = list(chip.launches)
        for num_sequences, candidate in product((1, 8), CANDIDATES):
            chip.launch_sequence(RDN, 128, V, torch.bfloat16, num_sequences=num_sequences, candidate=candidate)
        found = chip.usages(but=usual)
        # the kernels for Hopper have no choice; gradients of wide values are not among them
        assert {usage.kernel for usage in found} == ({"gradients"} if V == 256 else set())
        assert_fits(chip, found)


@pytest.mark.slow
@pytest.mark.parametrize("capability", CAPABILITIES)
def test_segments_of_rdn(capability: int, chip: Chip) -> None:
    """What a long sequence of few heads needs beyond the kernels above: 11 variants on Hopper, 6 elsewhere."""
    chip.of(capability)
    chip.launch_sequence(RDN, 128, 128, torch.bfloat16)
    usual = list(chip.launches)
    chip.launch_sequence(RDN, 128, 128, torch.bfloat16, num_sequences=1, num_tokens=8192, num_heads=4)
    if capability != 90:
        cut = chip.launches[len(usual) :]
        chip.launches = [x for x in cut if x.arguments.get("EFFECT") or x.kernel is combine_kernel]
    found = chip.usages(but=usual)
    names = sorted(usage.kernel for usage in found)
    # what a segment does to a state; on Hopper each state has its own pass
    effects = ["combine"] * 2 + ["forward"] * 2 + ["reverse"] * 2
    passes = ["fused_forward"] * 2 + ["prepare"] + ["reverse"] * 2
    assert names == sorted(effects + passes if capability == 90 else effects)
    assert_fits(chip, found)
