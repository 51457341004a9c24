"""Numbers in a chosen precision, whatever the caller's autocast."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

_NOTHING = nullcontext()


def without_autocast(device: torch.device) -> AbstractContextManager[Any]:
    """Keep a caller's own autocast out: what was fitted and calibrated holds for one precision.

    Args:
        device: whose autocast is meant.
    """
    if torch.is_autocast_enabled(device.type):
        return torch.autocast(device.type, enabled=False)
    return _NOTHING  # entering a disabled autocast takes as long as a small layer of a network


def wide(x: Tensor) -> Tensor:
    """The widest floats that the device has: float64, and float32 on Apple's.

    Sums and distances there rest on centred values alone; ``benchmarks.precision`` shows the error.
    """
    return x.float() if x.device.type in _NARROW else x.double()


# Devices without float64.
_NARROW = {"mps"}
