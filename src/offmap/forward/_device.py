"""The device on which networks run, and their type."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from itertools import chain

import torch
from torch import nn

from offmap.errors import ArgumentError


def as_device(device: str | torch.device | None) -> torch.device | None:
    """The device of that name, if it is available.

    Raises:
        ArgumentError: there is none of that name, or this machine or build of torch lacks it.
    """
    if device is None:
        return None
    try:
        target = torch.device(device)
    except RuntimeError as error:
        raise ArgumentError(f"device {device!r}: {str(error).splitlines()[0]}") from error
    if target.type == "cuda":  # not by a tensor: Lightning starts no processes in a notebook then
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        current = torch.cuda.current_device() if torch.cuda.is_initialized() else 0  # type: ignore[no-untyped-call]
        number = current if target.index is None else target.index
        if number < count:
            return torch.device("cuda", number)  # with its index, as tensors report it
        raise ArgumentError(f"device {device!r} was asked for, and torch sees no such device here")
    try:
        return torch.empty(0, device=target).device
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ArgumentError(
            f"device {device!r} was asked for, and this machine has no such device: "
            f"{str(error).splitlines()[0]}"
        ) from error


def device_of(modules: Sequence[nn.Module]) -> torch.device:
    """The device of the first tensor of the modules."""
    # Asked at every call of a guard, and network.parameters() would walk every module's children.
    for module in modules:
        for tensor in chain(module._parameters.values(), module._buffers.values()):
            if tensor is not None:
                return tensor.device
    return torch.device("cpu")


def dtype_of(modules: Sequence[nn.Module]) -> torch.dtype:
    """The type of the first floating-point parameter of the modules."""
    for module in modules:
        for tensor in module._parameters.values():
            if tensor is not None and tensor.is_floating_point():
                return tensor.dtype
    return torch.float32


def placed(
    network: nn.Module,
    modules: Sequence[nn.Module],
    target: torch.device | None,
    stack: ExitStack,
) -> torch.device:
    """Move a network to the target device until the stack closes; the device where it runs."""
    home = device_of(modules)  # the caller may have moved it since
    if target is None or target == home:
        return home
    stack.callback(network.to, home)
    network.to(target)
    return target
