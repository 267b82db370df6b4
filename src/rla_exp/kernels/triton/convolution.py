"""A short depthwise causal convolution with SiLU in one pass over memory, as a PyTorch operator.

PyTorch's own convolution of a [B, T, C] tensor in 16 bits took a third of a training step of small models
(docs/journal.md). Every product here is elementwise and in float32; x and the upstream gradient are read, y, dx and the
weight's gradient written.
"""

# Triton reads annotations: no `from __future__ import annotations` in files with kernels
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from rla_exp.kernels.triton.assembler import use_installed_assembler

BLOCK_TOKENS, BLOCK_CHANNELS = 64, 64


@triton.jit
def place(positions, t, inside, T, PACKED: tl.constexpr):
    """Tokens of the same document before each of the tokens t."""
    if PACKED:
        before = tl.load(positions + t, mask=inside, other=0)
    else:
        before = t % T
    return before


@triton.jit
def load_earlier(x, t, d, j, inside, before, C):
    """[tokens, channels] x[t - j] in float32; zeros where the document of t begins later."""
    mask = (inside & (before >= j) & (t >= j))[:, None] & (d < C)[None, :]
    return tl.load(x + (t - j)[:, None] * C + d[None, :], mask=mask, other=0.0).to(tl.float32)


@triton.jit
def convolved(x, weight, positions, t, d, count, T, C, W: tl.constexpr, PACKED: tl.constexpr):
    """[tokens, channels] sum_j weight[c, W - 1 - j] x[t - j, c] in float32."""
    inside = t < count
    before = place(positions, t, inside, T, PACKED)
    y = tl.zeros((t.shape[0], d.shape[0]), tl.float32)
    for j in tl.static_range(W):
        value = load_earlier(x, t, d, j, inside, before, C)
        tap = tl.load(weight + d * W + (W - 1 - j), mask=d < C, other=0.0).to(tl.float32)
        y += value * tap[None, :]
    return y


@triton.jit(do_not_specialize=["count", "T"])
def convolve_kernel(
    x,
    weight,
    positions,
    y,
    count,
    T,
    C,
    W: tl.constexpr,
    SILU: tl.constexpr,
    PACKED: tl.constexpr,
    BT: tl.constexpr,
    BC: tl.constexpr,
):
    """y [count, C] from x [count, C]."""
    t = tl.program_id(0).to(tl.int64) * BT + tl.arange(0, BT)
    d = tl.program_id(1) * BC + tl.arange(0, BC)
    value = convolved(x, weight, positions, t, d, count, T, C, W, PACKED)
    if SILU:
        value *= tl.sigmoid(value)
    mask = (t < count)[:, None] & (d < C)[None, :]
    tl.store(y + t[:, None] * C + d[None, :], value.to(y.dtype.element_ty), mask=mask)


@triton.jit(do_not_specialize=["count", "T"])
def weight_gradient_kernel(
    x,
    weight,
    positions,
    dy,
    dz,
    parts,
    count,
    T,
    C,
    W: tl.constexpr,
    SILU: tl.constexpr,
    PACKED: tl.constexpr,
    BT: tl.constexpr,
    BC: tl.constexpr,
):
    """dz [count, C], the gradient before SiLU, and each block's share of the weight's, parts [blocks, C, W] float32."""
    block = tl.program_id(0)
    t = block.to(tl.int64) * BT + tl.arange(0, BT)
    d = tl.program_id(1) * BC + tl.arange(0, BC)
    inside = t < count
    mask = inside[:, None] & (d < C)[None, :]
    gradient = tl.load(dy + t[:, None] * C + d[None, :], mask=mask, other=0.0).to(tl.float32)
    if SILU:
        z = convolved(x, weight, positions, t, d, count, T, C, W, PACKED)
        s = tl.sigmoid(z)
        gradient *= s * (1.0 + z * (1.0 - s))
        tl.store(dz + t[:, None] * C + d[None, :], gradient.to(dz.dtype.element_ty), mask=mask)
    before = place(positions, t, inside, T, PACKED)
    for j in tl.static_range(W):
        share = tl.sum(gradient * load_earlier(x, t, d, j, inside, before, C), 0)
        tl.store(parts + (block.to(tl.int64) * C + d) * W + (W - 1 - j), share, mask=d < C)


@triton.jit(do_not_specialize=["count", "T"])
def input_gradient_kernel(
    dz,
    weight,
    positions,
    dx,
    count,
    T,
    C,
    W: tl.constexpr,
    PACKED: tl.constexpr,
    BT: tl.constexpr,
    BC: tl.constexpr,
):
    """dx [count, C]: dx[t] = sum_j weight[:, W - 1 - j] dz[t + j], over tokens t + j of the same document."""
    t = tl.program_id(0).to(tl.int64) * BT + tl.arange(0, BT)
    d = tl.program_id(1) * BC + tl.arange(0, BC)
    value = tl.zeros((BT, BC), tl.float32)
    for j in tl.static_range(W):
        later = t + j
        inside = later < count
        # a token as many places into its document has this one before it
        reached = inside & (place(positions, later, inside, T, PACKED) >= j)
        mask = reached[:, None] & (d < C)[None, :]
        gradient = tl.load(dz + later[:, None] * C + d[None, :], mask=mask, other=0.0).to(tl.float32)
        tap = tl.load(weight + d * W + (W - 1 - j), mask=d < C, other=0.0).to(tl.float32)
        value += gradient * tap[None, :]
    mask = (t < count)[:, None] & (d < C)[None, :]
    tl.store(dx + t[:, None] * C + d[None, :], value.to(dx.dtype.element_ty), mask=mask)


def _blocks(x: Tensor) -> tuple[int, int]:
    count, C = x.shape[0] * x.shape[1], x.shape[2]
    return -(-count // BLOCK_TOKENS), -(-C // BLOCK_CHANNELS)


def _constants(x: Tensor, weight: Tensor, positions: Tensor | None) -> dict[str, Any]:
    return {
        "count": x.shape[0] * x.shape[1],
        "T": x.shape[1],
        "C": x.shape[2],
        "W": weight.shape[1],
        "PACKED": positions is not None,
        "BT": BLOCK_TOKENS,
        "BC": BLOCK_CHANNELS,
    }


def convolve(x: Tensor, weight: Tensor, positions: Tensor | None, *, silu: bool) -> Tensor:
    """y [B, T, C]; see `short_convolution`."""
    use_installed_assembler()
    y = torch.empty_like(x)
    with torch.cuda.device_of(x):  # type: ignore[no-untyped-call]
        convolve_kernel[_blocks(x)](x, weight, positions, y, SILU=silu, **_constants(x, weight, positions))
    return y


def convolve_backward(
    x: Tensor, weight: Tensor, positions: Tensor | None, dy: Tensor, *, silu: bool
) -> tuple[Tensor, Tensor]:
    """Gradients of x and of the weight, in their dtypes."""
    use_installed_assembler()
    dy = dy.contiguous()
    grid, constants = _blocks(x), _constants(x, weight, positions)
    # a block's share each, summed up in one order: atomics would give other bits at every launch
    parts = torch.empty((grid[0], *weight.shape), dtype=torch.float32, device=x.device)
    dz = torch.empty_like(x) if silu else dy
    dx = torch.empty_like(x)
    with torch.cuda.device_of(x):  # type: ignore[no-untyped-call]
        weight_gradient_kernel[grid](x, weight, positions, dy, dz, parts, SILU=silu, **constants)
        input_gradient_kernel[grid](dz, weight, positions, dx, **constants)
    return dx, parts.sum(0).to(weight.dtype)


@torch.library.custom_op("rla_exp::short_convolution", mutates_args=())
def short_convolution(x: Tensor, weight: Tensor, positions: Tensor | None, silu: bool) -> Tensor:
    """y [B, T, C] in x's dtype.

    Args:
        x: [B, T, C], contiguous, on a GPU.
        weight: [C, W].
        positions: [T] int64, each token's place in its document, of a packed row; None: every row is one document.
        silu: apply SiLU to the sum.
    """
    return convolve(x, weight, positions, silu=silu)


@short_convolution.register_fake
def _(x: Tensor, *_: object) -> Tensor:
    return torch.empty_like(x)


@torch.library.custom_op("rla_exp::short_convolution_backward", mutates_args=())
def short_convolution_backward(
    x: Tensor, weight: Tensor, positions: Tensor | None, dy: Tensor, silu: bool
) -> tuple[Tensor, Tensor]:
    """Gradients of x and of the weight, in their dtypes."""
    return convolve_backward(x, weight, positions, dy, silu=silu)


@short_convolution_backward.register_fake
def _(x: Tensor, weight: Tensor, *_: object) -> tuple[Tensor, Tensor]:
    return torch.empty_like(x), torch.empty_like(weight)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG001
    x, weight, positions, ctx.silu = inputs
    ctx.save_for_backward(x, weight, positions)


def _backward(ctx: Any, dy: Tensor) -> tuple[Tensor, Tensor, None, None]:
    x, weight, positions = ctx.saved_tensors
    return *short_convolution_backward(x, weight, positions, dy, ctx.silu), None, None


short_convolution.register_autograd(_backward, setup_context=_setup)
