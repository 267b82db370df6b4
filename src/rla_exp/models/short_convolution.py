"""A short depthwise causal convolution: each channel mixes its own last few tokens."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from rla_exp.kernels.convolution import convolve_rows, short_convolution
from rla_exp.models.sequence_layout import SequenceLayout


class ShortConvolution(nn.Module):
    """y_t = f(sum_j weight[:, kernel - 1 - j] * x_{t-j}), over tokens of the same document only; f: SiLU or nothing.

    weight: [channels, kernel], drawn uniformly from +-1/sqrt(kernel), as PyTorch draws a depthwise convolution.
    """

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()
        self.kernel = kernel
        self.weight = nn.Parameter(torch.empty(channels, kernel))

    def initial_value(self, _name: str, generator: Generator) -> Tensor:
        bound = self.kernel**-0.5
        return torch.empty(self.weight.shape, device="cpu").uniform_(-bound, bound, generator=generator)

    def forward(self, x: Tensor, layout: SequenceLayout, window: Tensor | None = None, *, silu: bool = False) -> Tensor:
        """x: [B, T, C]. window: [B, kernel - 1, C] (packed: [N, kernel - 1, C]), the inputs before x (None: zeros),
        moved on in place.

        Returns [B, T, C].
        """
        if window is None:
            packed = layout.cu_seqlens is not None
            return short_convolution(x, self.weight, positions=layout.positions if packed else None, silu=silu)
        if layout.cu_seqlens is not None:
            y = self._continued(x, layout.cu_seqlens, window)
        else:
            joined = torch.cat([window.to(x.dtype), x], dim=1)
            window.copy_(joined[:, x.shape[1] :].detach())
            y = convolve_rows(joined, self.weight, 0)
        return F.silu(y) if silu else y

    def _continued(self, x: Tensor, cu_seqlens: Tensor, window: Tensor) -> Tensor:
        """Documents that go on from their windows: each window is laid before its document, and all is one row."""
        num_documents, reach, _ = window.shape
        index = torch.arange(x.shape[1], device=x.device)
        place = index + torch.searchsorted(cu_seqlens, index, right=True) * reach
        windows = torch.arange(num_documents, device=x.device)[:, None] * reach + torch.arange(reach, device=x.device)
        joined = x.new_empty(1, x.shape[1] + num_documents * reach, x.shape[2])
        joined[0, place] = x[0]
        joined[0, cu_seqlens[:-1, None] + windows] = window.to(x.dtype)
        window.copy_(joined[0, cu_seqlens[1:, None] + windows].detach())
        return convolve_rows(joined, self.weight, 0)[:, place - reach]
