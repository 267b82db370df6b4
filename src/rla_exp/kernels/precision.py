"""Computing in the dtype that was chosen, whatever autocast is on outside."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch


def without_autocast(device: torch.device) -> AbstractContextManager[object]:
    """No autocast on the device inside; "meta" knows none, and refuses even to have it turned off."""
    # torch.amp.is_autocast_available knows better, but PyTorch 2.11 cannot trace it
    if device.type == "meta":
        return nullcontext()
    return torch.autocast(device.type, enabled=False)
