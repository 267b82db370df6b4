"""Kernels compile ahead of time, without a GPU, and fit into the chips: registers without spills, shared memory."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from rla_exp.kernels import State
from rla_exp.kernels.inputs import Inputs
from rla_exp.kernels.options import Options
from rla_exp.kernels.verify.cases import CANDIDATES, RDN

pytest.importorskip("triton", reason="triton exists for Linux only")

from triton import knobs
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, compile
from triton.runtime.jit import JITFunction
from triton.tools.tensor_descriptor import TensorDescriptor

from rla_exp.kernels.triton import call
from rla_exp.kernels.triton.combine import combine_kernel
from rla_exp.kernels.triton.convolution import convolve, convolve_backward
from rla_exp.kernels.triton.launch import fused_backward, fused_forward
from rla_exp.kernels.triton.operator import operands
from rla_exp.kernels.triton.plan import Switches
from rla_exp.kernels.triton.step import triton_step
from rla_exp.kernels.triton.tiles import Gpu, candidates

# bytes of shared memory that a program may take, from the CUDA programming guide's table of compute capabilities
SHARED_MEMORY = {80: 163 * 1024, 90: 227 * 1024, 100: 227 * 1024}
# bytes of a thread's registers that do not fit, by chip and kernel; kernels not named do not spill. The stack counts:
# kernels have no other use for it. On sm_80 ptxas gives up on one kernel and keeps next to nothing in registers.
MAX_SPILLED_BYTES = {
    80: {"inverses": 160, "prepare": 664, "forward": 512, "reverse": 192, "gradients": 2376},
    90: {"inverses": 136, "forward": 392, "reverse": 192, "gradients": 448},
    100: {"inverses": 192, "prepare": 40, "forward": 512, "replay": 192, "reverse": 520, "gradients": 296},
}


@dataclass(frozen=True)
class Launch:
    """A launch as it would have been."""

    kernel: JITFunction
    arguments: dict[str, Any]
    options: dict[str, Any]


@dataclass(frozen=True)
class Usage:
    """What the assembler says of a kernel."""

    registers: int
    spilled_bytes: int
    shared_bytes: int


def gpu_of(capability: int) -> Gpu:
    return Gpu(
        num_processors=132,
        shared_memory=SHARED_MEMORY[capability],
        must_pipeline=False,
        has_descriptors=capability == 90,
    )


@pytest.fixture
def launches(monkeypatch: pytest.MonkeyPatch) -> list[Launch]:
    """Collects what would be launched from now on; nothing is."""
    collected: list[Launch] = []

    def run(self: JITFunction, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> None:
        named = dict(zip(self.arg_names, args, strict=False)) | kwargs
        options = {name: named.pop(name) for name in list(named) if name not in self.arg_names}
        assert named.keys() == set(self.arg_names)
        collected.append(Launch(self, named, options))

    monkeypatch.setattr(JITFunction, "run", run)
    return collected


def compile_launch(launch: Launch, capability: int, folder: Path) -> Usage:
    """Compile for a chip as Triton would at this launch."""
    signature: dict[str, str] = {}
    constants: dict[tuple[int, ...], Any] = {}
    attributes: dict[tuple[int, ...], Any] = {}
    for n, parameter in enumerate(launch.kernel.params):
        value = launch.arguments[parameter.name]
        is_integer = isinstance(value, int) and not isinstance(value, bool) and not parameter.do_not_specialize
        if parameter.is_constexpr or value is None or (is_integer and value == 1):
            signature[parameter.name] = "constexpr"
            constants[(n,)] = value
            continue
        signature[parameter.name] = type_of(value)
        if isinstance(value, torch.Tensor) or (is_integer and value % 16 == 0):
            attributes[(n,)] = [["tt.divisibility", 16]]
    source = ASTSource(launch.kernel, signature, constants, attributes)
    options = {"enable_fp_fusion": True} | launch.options
    compiled = compile(source, target=GPUTarget("cuda", capability, 32), options=options)
    assert not products_that_run_into_loads(compiled.asm["ttgir"]), launch.kernel.fn.__name__
    return usage_of(compiled.asm["cubin"], compiled.metadata.shared, folder)


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


def type_of(value: object) -> str:
    if isinstance(value, TensorDescriptor):
        return f"tensordesc<{type_of(value.base)[1:]}{value.block_shape}>"
    if isinstance(value, torch.Tensor):
        names = {torch.bfloat16: "bf16", torch.float16: "fp16", torch.float32: "fp32"}
        names |= {torch.int32: "i32", torch.int64: "i64"}
        return "*" + names[value.dtype]
    return "fp32" if isinstance(value, float) else "i32"


def usage_of(cubin: bytes, shared_bytes: int, folder: Path) -> Usage:
    """From the binary itself: what Triton reports of spills it asks a driver for."""
    file = folder / "kernel.cubin"
    file.write_bytes(cubin)
    command = [knobs.nvidia.cuobjdump.path, "--dump-resource-usage", str(file)]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    registers, stack, local = (int(re.search(rf"{name}:(\d+)", text)[1]) for name in ("REG", "STACK", "LOCAL"))
    return Usage(registers, stack + local, shared_bytes)


def meta_inputs(
    options: Options,
    K: int,
    V: int,
    dtype: torch.dtype,
    *,
    step: bool = False,
    num_sequences: int = 8,
    num_tokens: int = 2048,
    num_heads: int = 16,
) -> Inputs:
    """Tensors without memory: sequences of so many tokens, or 64 of one."""
    tokens = (64,) if step else (num_sequences, num_tokens)

    def empty(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.empty(*shape, dtype=dtype, device="meta")

    q, k = (empty(*tokens, num_heads, K, dtype=dtype) for _ in range(2))
    g, beta, gamma = (empty(*tokens, num_heads) for _ in range(3))
    S, R = (empty(tokens[0], num_heads, K, V) for _ in range(2))
    has_residual = options.has_residual
    return Inputs(
        q=q,
        k=k,
        v=empty(*tokens, num_heads, V, dtype=dtype),
        g=g,
        beta=beta,
        gamma=gamma if has_residual else None,
        initial_state=State(S, R if has_residual else None) if step else None,
    )


def launch_sequence(
    options: Options,
    K: int,
    V: int,
    dtype: torch.dtype,
    *,
    keep: bool = True,
    num_sequences: int = 8,
    num_tokens: int = 2048,
    num_heads: int = 16,
    candidate: int = 0,
) -> None:
    """A forward pass, and where it keeps what that needs a backward pass."""
    inputs = meta_inputs(options, K, V, dtype, num_sequences=num_sequences, num_tokens=num_tokens, num_heads=num_heads)
    x = operands(inputs, options)
    tiles = candidates(call.usual_tiles(x, Switches.of(options)))[candidate]
    o, S, R, saved = fused_forward(x, options, None, None, keep=keep, tiles=tiles)
    if keep:
        fused_backward(x, options, saved, o, S, R, tiles=tiles)


def compiled_as(launch: Launch) -> tuple[str, dict[str, Any]]:
    """The kernel's name and all that its code depends on."""
    runtime = {parameter.name for parameter in launch.kernel.params if parameter.do_not_specialize}
    what = {
        key: type_of(value) if isinstance(value, Tensor | TensorDescriptor) or key in runtime else value
        for key, value in launch.arguments.items()
    }
    return launch.kernel.fn.__name__, what | launch.options


def usages(launches: list[Launch], capability: int, folder: Path, but: Sequence[Launch] = ()) -> dict[str, Usage]:
    """By the kernel's name; the same launch is compiled once, and none that is among `but`."""
    found: dict[str, Usage] = {}
    seen = [compiled_as(launch) for launch in but]
    for launch in launches:
        name, what = compiled_as(launch)
        if (name, what) not in seen:
            seen.append((name, what))
            found[f"{name} {sum(name == other for other, _ in seen)}"] = compile_launch(launch, capability, folder)
    return found


def assert_fits(found: dict[str, Usage], capability: int) -> None:
    """No more shared memory than the chip has, and no more spills than are allowed."""
    wrong = {
        name: usage
        for name, usage in found.items()
        if usage.shared_bytes > SHARED_MEMORY[capability]
        or usage.spilled_bytes > MAX_SPILLED_BYTES[capability].get(name.split("_")[0], 0)
    }
    assert not wrong, "\n".join(f"{name}: {usage}" for name, usage in found.items())
    # else the numbers were not read
    assert all(usage.registers > 16 for usage in found.values())


@pytest.mark.slow
@pytest.mark.parametrize("capability", SHARED_MEMORY)
def test_all_kernels_of_rdn(
    capability: int, launches: list[Launch], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(call, "gpu_of", lambda _: gpu_of(capability))
    # with few heads programs take fewer columns; where chunks are whole, tiles are described on Hopper
    for num_sequences, num_tokens in ((1, 2048), (8, 2048), (8, 2000)) if capability == 90 else ((8, 2048),):
        launch_sequence(RDN, 128, 128, torch.bfloat16, num_sequences=num_sequences, num_tokens=num_tokens)
    triton_step(meta_inputs(RDN, 128, 128, torch.bfloat16, step=True), RDN, inplace=True)
    found = usages(launches, capability, tmp_path)
    names = {name.split("_")[0] for name in found}
    assert names == {"forward", "gradients", "inverses", "prepare", "replay", "reverse", "step"}
    assert_fits(found, capability)


@pytest.mark.slow
@pytest.mark.parametrize("capability", SHARED_MEMORY)
def test_the_convolution(capability: int, launches: list[Launch], tmp_path: Path) -> None:
    x, dy = (torch.empty(8, 2048, 768, dtype=torch.bfloat16, device="meta") for _ in range(2))
    weight = torch.empty(768, 4, device="meta")
    convolve(x, weight, None, silu=True)
    convolve_backward(x, weight, None, dy, silu=True)
    found = usages(launches, capability, tmp_path)
    assert {name.rsplit("_", 1)[0] for name in found} == {"convolve", "weight_gradient", "input_gradient"}
    assert_fits(found, capability)


@pytest.mark.slow
def test_candidates_for_the_tiles(launches: list[Launch], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What autotuning may choose on Hopper, with many heads and with few."""
    monkeypatch.setattr(call, "gpu_of", lambda _: gpu_of(90))
    for num_sequences in (1, 8):
        launch_sequence(RDN, 128, 128, torch.bfloat16, num_sequences=num_sequences)
    usual = len(launches)
    for num_sequences, candidate in product((1, 8), CANDIDATES):
        launch_sequence(RDN, 128, 128, torch.bfloat16, num_sequences=num_sequences, candidate=candidate)
    found = usages(launches[usual:], 90, tmp_path, but=launches[:usual])
    assert {name.split("_")[0] for name in found} == {"forward", "gradients", "reverse"}
    assert_fits(found, 90)


@pytest.mark.slow
@pytest.mark.parametrize("capability", SHARED_MEMORY)
def test_segments_of_rdn(
    capability: int, launches: list[Launch], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a long sequence of few heads needs beyond the kernels above: 8 variants on Hopper, 6 elsewhere."""
    monkeypatch.setattr(call, "gpu_of", lambda _: gpu_of(capability))
    launch_sequence(RDN, 128, 128, torch.bfloat16)
    usual = len(launches)
    launch_sequence(RDN, 128, 128, torch.bfloat16, num_sequences=1, num_tokens=8192, num_heads=4)
    cut = launches[usual:]
    if capability != 90:
        cut = [launch for launch in cut if launch.arguments.get("EFFECT") or launch.kernel is combine_kernel]
    found = usages(cut, capability, tmp_path, but=launches[:usual])
    names = [name.split("_")[0] for name in sorted(found)]
    assert names == ["combine"] * 2 + ["forward"] * (4 if capability == 90 else 2) + ["reverse"] * 2
    assert_fits(found, capability)
