"""Computing in the dtype that was chosen, whatever autocast is on outside."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch


def without_autocast(device: torch.device) -> AbstractContextManager[object]:
    """No autocast on the device inside; some devices (meta) know none, and refuse even to have it turned off."""
    if torch.amp.is_autocast_available(device.type):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()
