"""The short depthwise causal convolution in front of q, k and v: in PyTorch, and fused where a GPU can."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from rla_exp.kernels.convolution_check import BOUNDS, is_right


def short_convolution(
    x: Tensor, weight: Tensor, *, positions: Tensor | None = None, silu: bool = False, fused: bool = True
) -> Tensor:
    """y_t = f(sum_j weight[:, W - 1 - j] * x_{t-j}), over tokens of the same document only.

    Args:
        x: [B, T, C].
        weight: [C, W].
        positions: [T] int64, of each token the number of tokens before it in its document, where x is one packed row;
            None: every row is one document.
        silu: f is SiLU; otherwise the identity.
        fused: take the kernels where a GPU can; they are differentiable once. False: PyTorch's operations everywhere.

    Returns:
        [B, T, C] in x's dtype. On a GPU that passed the comparison with the definition, one kernel; elsewhere
        PyTorch's operations, which autocast may give another dtype.

    Raises:
        ValueError: positions that are not those of one packed row.
    """
    if positions is not None and (x.shape[0] != 1 or positions.shape != x.shape[1:2]):
        raise ValueError(
            f"positions are those of one packed row, [T]; got {tuple(positions.shape)} for x of {tuple(x.shape)}"
        )
    if fused and x.is_cuda and x.dtype in BOUNDS and _is_right(x, weight, positions):
        from rla_exp.kernels.triton.convolution import short_convolution as kernels

        y: Tensor = kernels(x.contiguous(), weight.contiguous(), positions, silu)
        return y
    if positions is None:
        y = convolve_rows(x, weight, weight.shape[1] - 1)[:, : x.shape[1]]
    else:
        y = _convolve_packed(x, weight, positions)
    return F.silu(y) if silu else y


def convolve_rows(x: Tensor, weight: Tensor, padding: int) -> Tensor:
    """Of rows [B, T, C] with so many zeros on both sides."""
    # [B, T, C] is a channels-last image of height 1: twice as fast on a CPU as conv1d, which transposes
    image = x.unsqueeze(1).permute(0, 3, 1, 2)
    y = F.conv2d(image, weight[:, None, None, :], padding=(0, padding), groups=weight.shape[0])
    return y.permute(0, 2, 3, 1).squeeze(1)


def _convolve_packed(x: Tensor, weight: Tensor, positions: Tensor) -> Tensor:
    y = x * weight[:, -1]
    for lag in range(1, min(weight.shape[1], x.shape[1])):
        before = F.pad(x[:, :-lag], (0, 0, lag, 0))
        # not a product: what is not finite in one document must not reach the next
        y = y + torch.where((positions >= lag)[:, None], before, 0.0) * weight[:, -1 - lag]
    return y


def _is_right(x: Tensor, weight: Tensor, positions: Tensor | None) -> bool:
    answer: bool = _answer(x.dtype, weight.dtype, weight.shape[1], positions is not None, x.device.index)
    return answer


# torch.compile takes the answer as it is when it traces
@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _answer(dtype: torch.dtype, weight_dtype: torch.dtype, width: int, packed: bool, device_index: int) -> bool:
    return is_right(dtype, weight_dtype, width, packed=packed, device_index=device_index)
