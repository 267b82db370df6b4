"""Launches collected instead of run, and compiled ahead of time for a chip: no GPU is needed."""

from __future__ import annotations

import io
import re
import subprocess
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from rla_exp.kernels import State
from rla_exp.kernels.inputs import Inputs
from rla_exp.kernels.options import Options
from rla_exp.kernels.triton.tiles import Gpu

# bytes of shared memory that a program may take, from the CUDA programming guide's table of compute capabilities
SHARED_MEMORY = {80: 163 * 1024, 90: 227 * 1024, 100: 227 * 1024}


@dataclass(frozen=True)
class Launch:
    """A launch as it would have been."""

    kernel: Any
    arguments: dict[str, Any]
    options: dict[str, Any]

    def compiled_as(self) -> tuple[str, dict[str, Any]]:
        """The kernel's name and all that its code depends on."""
        runtime = {parameter.name for parameter in self.kernel.params if parameter.do_not_specialize}
        what = {
            key: type_of(value) if is_described(value) or isinstance(value, Tensor) or key in runtime else value
            for key, value in self.arguments.items()
        }
        return self.kernel.fn.__name__, what | self.options


@dataclass(frozen=True)
class Usage:
    """What the assembler says of a kernel."""

    kernel: str
    """Its name: forward, of forward_kernel."""
    is_gluon: bool
    registers: int
    spilled_bytes: int
    """Of registers that do not fit. The stack counts: kernels have no other use for it."""
    shared_bytes: int
    ttgir: str = field(repr=False)
    is_serialized: bool = False
    """Of kernels in Gluon: whether each product is waited for at once, wherever they wait (ptxas: C7512, C7514)."""


@dataclass
class Chip:
    """A GPU of some capability that collects what would be launched on it; nothing is."""

    monkeypatch: pytest.MonkeyPatch
    folder: Path
    launches: list[Launch] = field(default_factory=list)
    capability: int = 90

    def of(self, capability: int, **other: bool) -> None:
        """From now on: with this capability, and what else differs from the usual GPU of it."""
        is_hopper = capability == 90
        gpu = Gpu(132, SHARED_MEMORY[capability], must_pipeline=False, has_descriptors=is_hopper, runs_gluon=is_hopper)
        self.capability = capability
        self.monkeypatch.setattr("rla_exp.kernels.triton.call.gpu_of", lambda _: replace(gpu, **other))

    def launch_sequence(
        self,
        options: Options,
        K: int,
        V: int,
        dtype: torch.dtype,
        *,
        keep: bool = True,
        backward: bool = True,
        initial_state: bool = False,
        num_sequences: int = 8,
        num_tokens: int = 2048,
        num_heads: int = 16,
        candidate: int = 0,
    ) -> None:
        """A forward pass, and where it keeps what that needs a backward pass."""
        from rla_exp.kernels.triton.backward import fused_backward
        from rla_exp.kernels.triton.call import usual_tiles
        from rla_exp.kernels.triton.launch import fused_forward
        from rla_exp.kernels.triton.operator import operands
        from rla_exp.kernels.triton.plan import Switches
        from rla_exp.kernels.triton.tiles import candidates

        inputs = meta_inputs(options, K, V, dtype, (num_sequences, num_tokens), num_heads, initial_state=initial_state)
        x = operands(inputs, options)
        tiles = (known := candidates(usual_tiles(x, Switches.of(options))))[min(candidate, len(known) - 1)]
        S, R = inputs.initial_state or (None, None)
        o, S, R, saved = fused_forward(x, options, S, R, keep=keep, tiles=tiles)
        if keep and backward:
            fused_backward(x, options, saved, o, S, R, tiles=tiles)

    def launch_step(self, options: Options, K: int, V: int, dtype: torch.dtype) -> None:
        """One token of 64 sequences."""
        from rla_exp.kernels.triton.step import triton_step

        triton_step(meta_inputs(options, K, V, dtype, (64,), 16, initial_state=True), options, inplace=True)

    def usages(self, but: Sequence[Launch] = ()) -> list[Usage]:
        """Of all that was launched; the same launch is compiled once, and none that is among `but`."""
        found: list[Usage] = []
        seen = [launch.compiled_as() for launch in but]
        for launch in self.launches:
            if (what := launch.compiled_as()) not in seen:
                seen.append(what)
                found.append(self.compile(launch))
        return found

    def compile(self, launch: Launch) -> Usage:
        """As Triton would at this launch."""
        from triton.backends.compiler import GPUTarget
        from triton.compiler import ASTSource, compile
        from triton.experimental.gluon._runtime import GluonASTSource

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
            if isinstance(value, Tensor) or (is_integer and value % 16 == 0):
                attributes[(n,)] = [["tt.divisibility", 16]]
        is_gluon = launch.kernel.is_gluon()
        source = (GluonASTSource if is_gluon else ASTSource)(launch.kernel, signature, constants, attributes)
        options = {"enable_fp_fusion": True} | launch.options
        target = GPUTarget("cuda", self.capability, 32)
        log = ""
        if is_gluon:
            compiled, log = compile_aloud(source, target, options)
        else:
            compiled = compile(source, target=target, options=options)
        registers, spilled = self.registers(compiled.asm["cubin"])
        kernel = launch.kernel.fn.__name__.rsplit("_", 1)[0]
        shared, ttgir = compiled.metadata.shared, compiled.asm["ttgir"]
        return Usage(kernel, is_gluon, registers, spilled, shared, ttgir, "instructions are serialized" in log)

    def registers(self, cubin: bytes) -> tuple[int, int]:
        """Registers, and bytes of them that do not fit, from the binary itself: Triton asks a driver for these."""
        from triton import knobs

        file = self.folder / "kernel.cubin"
        file.write_bytes(cubin)
        command = [knobs.nvidia.cuobjdump.path, "--dump-resource-usage", str(file)]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        registers, stack, local = (int(re.search(rf"{name}:(\d+)", text)[1]) for name in ("REG", "STACK", "LOCAL"))
        return registers, stack + local

    def assert_fits(self, found: list[Usage], max_spilled_bytes: dict[str, int]) -> None:
        """No more shared memory than the chip has, and no more spills than are allowed by kernel."""
        shared = SHARED_MEMORY[self.capability]
        fits = [
            usage.shared_bytes <= shared and usage.spilled_bytes <= max_spilled_bytes.get(usage.kernel, 0)
            for usage in found
        ]
        assert all(fits), "\n".join(map(str, found))
        # else the numbers were not read
        assert all(usage.registers > 16 for usage in found)


def compile_aloud(source: Any, target: Any, options: dict[str, Any]) -> tuple[Any, str]:
    """With what the assembler that Triton takes for this chip prints, which Triton's cache does not keep."""
    from triton import knobs
    from triton.compiler import compile

    log = io.StringIO()
    with knobs.compilation.scope(), knobs.nvidia.scope(), redirect_stdout(log):
        knobs.compilation.always_compile = knobs.nvidia.dump_ptxas_log = True
        compiled = compile(source, target=target, options=options)
    assert "bytes stack frame" in log.getvalue()
    return compiled, log.getvalue()


@pytest.fixture
def chip(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Chip:
    """Collects launches from now on, as a Hopper GPU until another is asked for."""
    jit = pytest.importorskip("triton.runtime.jit", reason="triton exists for Linux only")
    found = Chip(monkeypatch, tmp_path)
    found.of(90)

    def run(self: Any, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> None:
        named = dict(zip(self.arg_names, args, strict=False)) | kwargs
        options = {name: named.pop(name) for name in list(named) if name not in self.arg_names}
        assert named.keys() == set(self.arg_names)
        found.launches.append(Launch(self, named, options))

    monkeypatch.setattr(jit.JITFunction, "run", run)
    return found


def is_described(value: object) -> bool:
    """Whether it is a descriptor, of Triton or of Gluon, whose descriptors have a layout."""
    return hasattr(value, "block_shape")


def type_of(value: Any) -> str:
    if is_described(value):
        layout = f",{value.layout!r}" if hasattr(value, "layout") else ""
        return f"tensordesc<{type_of(value.base)[1:]}{value.block_shape}{layout}>"
    if isinstance(value, Tensor):
        names = {torch.bfloat16: "bf16", torch.float16: "fp16", torch.float32: "fp32"}
        names |= {torch.int32: "i32", torch.int64: "i64"}
        return "*" + names[value.dtype]
    return "fp32" if isinstance(value, float) else "i32"


def meta_inputs(
    options: Options,
    K: int,
    V: int,
    dtype: torch.dtype,
    tokens: tuple[int, ...],
    num_heads: int,
    *,
    initial_state: bool,
) -> Inputs:
    """Tensors without memory. tokens: sequences and tokens of each, or sequences of one."""

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
        initial_state=State(S, R if has_residual else None) if initial_state else None,
    )
