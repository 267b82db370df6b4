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

    def forward(
        self,
        x: Tensor,
        layout: SequenceLayout,
        window: Tensor | None = None,
        *,
        silu: bool = False,
        fused: bool = True,
    ) -> Tensor:
        """x: [B, T, C]. window: [B, kernel - 1, C] (packed: [N, kernel - 1, C]), the inputs before x (None: zeros),
        moved on in place. silu, fused: as of `short_convolution`.

        Returns [B, T, C].
        """
        if window is None:
            positions = None if layout.cu_seqlens is None else layout.positions
            return short_convolution(x, self.weight, positions=positions, silu=silu, fused=fused)
        if not x.shape[1]:
            return x
        if self.kernel == 1:
            y = convolve_rows(x, self.weight, 0)
        elif layout.cu_seqlens is not None:
            y = self._continued(x, layout.cu_seqlens, window)
        else:
            joined = torch.cat([window.to(x.dtype), x], dim=1)
            window.copy_(joined[:, x.shape[1] :].detach())
            y = convolve_rows(joined, self.weight, 0)
        return F.silu(y) if silu else y

    def _continued(self, x: Tensor, cu_seqlens: Tensor, window: Tensor) -> Tensor:
        """Documents that go on from their windows: all as one row, then each one's first tokens after its window."""
        num_documents, reach, _ = window.shape
        # copies of rows by index_select: by indexing they take several times as long on a CPU
        rows, lag = x[0], torch.arange(reach, device=x.device)
        starts, lengths = cu_seqlens[:-1, None], cu_seqlens.diff()[:, None]
        first = rows.index_select(0, (starts + lag).clamp(max=len(rows) - 1).flatten()).view_as(window)
        joined = torch.cat([window.to(x.dtype), first], dim=1)
        y = convolve_rows(x, self.weight, reach)
        # what is no token goes behind the last one: to pick tokens out by a mask would wait for a GPU
        place = torch.where(lag < lengths, starts + lag, len(rows)).flatten()
        y = y.index_copy(1, place, convolve_rows(joined, self.weight, 0).flatten(0, 1)[None])[:, : len(rows)]

        last = rows.index_select(0, (starts + lengths - reach + lag).clamp(min=0).flatten()).view_as(window)
        place = 2 * reach * torch.arange(num_documents, device=x.device)[:, None] + lengths.clamp(max=reach) + lag
        short = joined.flatten(0, 1).index_select(0, place.flatten()).view_as(window)
        window.copy_(torch.where((lengths < reach)[..., None], short, last).detach())
        return y
