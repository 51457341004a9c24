"""Numbers in a chosen precision, whatever the caller's autocast."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

_NOTHING = nullcontext()


def without_autocast(device: torch.device) -> AbstractContextManager[Any]:
    """Keep a caller's own autocast out: what was fitted and calibrated holds for one precision.

    Args:
        device: whose autocast is meant.
    """
    if torch.is_autocast_enabled(device.type):
        return torch.autocast(device.type, enabled=False)
    return _NOTHING  # entering a disabled autocast takes as long as a small layer of a network
