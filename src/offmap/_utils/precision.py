"""Numbers in a chosen precision, whatever the caller's autocast."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Self

import torch
from torch import Tensor, nn

NOTHING = nullcontext()
_FEW = 512  # numbers that Python adds faster than a call of torch takes


def without_autocast(device: torch.device) -> AbstractContextManager[Any]:
    """Disable a caller's autocast: fit and calibration hold for one precision.

    Args:
        device: whose autocast is meant.
    """
    if torch.is_autocast_enabled(device.type):
        return torch.autocast(device.type, enabled=False)
    return NOTHING  # entering a disabled autocast takes as long as a small layer of a network


class KeepsTypes(nn.Module):
    """A module whose tensors keep their type, whatever a module around it is cast to.

    In half precision a covariance, or a table of limits, would give other scores or decisions. The
    tensors move between devices as those of any module, but not to one without float64.
    """

    def _apply(self, change: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        def same_type(x: Tensor) -> Tensor:
            if not has_float64(change(x.new_empty(1, dtype=torch.float32)).device):
                return x  # where its activations are, too
            changed = change(x)
            return changed if changed.dtype == x.dtype else x.to(changed.device)

        return super()._apply(same_type, recurse)  # type: ignore[no-untyped-call,no-any-return]


def sum_is_finite(x: Tensor) -> bool:
    """Whether the sum is finite: then there is no NaN and no infinity."""
    if x.numel() <= _FEW and x.ndim == 2:  # of one sample: half the time of a sum by torch
        return math.isfinite(sum(map(sum, x.tolist())))
    return math.isfinite(x.sum().item())


def wide(x: Tensor) -> Tensor:
    """The widest floats that the device has: float64, and float32 on Apple's.

    There sums and distances are of centred values alone; ``benchmarks.precision`` shows the error.
    """
    return x.double() if has_float64(x.device) else x.float()


def has_float64(device: torch.device) -> bool:
    """Whether a device has float64."""
    return device.type not in _NARROW


def wide_device(device: torch.device) -> torch.device:
    """The device, or the CPU if it lacks float64."""
    return device if has_float64(device) else torch.device("cpu")


# Devices without float64.
_NARROW = {"mps"}
