"""A short depthwise causal convolution: each channel mixes its own last few tokens."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from rla_exp.models.sequence_layout import SequenceLayout


class ShortConvolution(nn.Module):
    """y_t = sum_j weight[:, kernel - 1 - j] * x_{t-j}, over tokens of the same document only.

    weight: [channels, kernel], drawn uniformly from +-1/sqrt(kernel), as PyTorch draws a depthwise convolution.
    """

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()
        self.kernel = kernel
        self.weight = nn.Parameter(torch.empty(channels, kernel))

    def initial_value(self, _name: str, generator: Generator) -> Tensor:
        bound = self.kernel**-0.5
        return torch.empty(self.weight.shape, device="cpu").uniform_(-bound, bound, generator=generator)

    def forward(self, x: Tensor, layout: SequenceLayout, window: Tensor | None = None) -> Tensor:
        """x: [B, T, C]. window: [B, kernel - 1, C] (packed: [N, kernel - 1, C]), the inputs before x (None: zeros),
        moved on in place.

        Returns [B, T, C].
        """
        if layout.cu_seqlens is not None and window is not None:
            return self._continued(x, layout.cu_seqlens, window)
        if layout.cu_seqlens is not None:
            return self._packed(x, layout.positions)
        if window is None:
            return self._convolve(x, padding=self.kernel - 1)[:, : x.shape[1]]
        joined = torch.cat([window.to(x.dtype), x], dim=1)
        window.copy_(joined[:, x.shape[1] :].detach())
        return self._convolve(joined, padding=0)

    def _convolve(self, x: Tensor, padding: int) -> Tensor:
        # [B, T, C] is a channels-last image of height 1: twice as fast on a CPU as conv1d, which transposes
        image = x.unsqueeze(1).permute(0, 3, 1, 2)
        y = F.conv2d(image, self.weight[:, None, None, :], padding=(0, padding), groups=self.weight.shape[0])
        return y.permute(0, 2, 3, 1).squeeze(1)

    def _continued(self, x: Tensor, cu_seqlens: Tensor, window: Tensor) -> Tensor:
        """Documents that go on from their windows: all as one row, then each one's first tokens after its window."""
        num_documents, reach, _ = window.shape
        # copies of rows by index_select: by indexing they take several times as long on a CPU
        rows, lag = x[0], torch.arange(reach, device=x.device)
        starts, lengths = cu_seqlens[:-1, None], cu_seqlens.diff()[:, None]
        first = rows.index_select(0, (starts + lag).clamp(max=len(rows) - 1).flatten()).view_as(window)
        joined = torch.cat([window.to(x.dtype), first], dim=1)
        is_token = lag < lengths
        y = self._convolve(x, padding=reach)[:, : len(rows)]
        y[0, (starts + lag)[is_token]] = self._convolve(joined, padding=0)[is_token]

        last = rows.index_select(0, (starts + lengths - reach + lag).clamp(min=0).flatten()).view_as(window)
        place = 2 * reach * torch.arange(num_documents, device=x.device)[:, None] + lengths.clamp(max=reach) + lag
        short = joined.flatten(0, 1).index_select(0, place.flatten()).view_as(window)
        window.copy_(torch.where((lengths < reach)[..., None], short, last).detach())
        return y

    def _packed(self, x: Tensor, positions: Tensor) -> Tensor:
        y = x * self.weight[:, -1]
        for lag in range(1, min(self.kernel, x.shape[1])):
            inside = (positions >= lag)[:, None]
            y = y + F.pad(x[:, :-lag], (0, 0, lag, 0)) * inside * self.weight[:, -1 - lag]
        return y
