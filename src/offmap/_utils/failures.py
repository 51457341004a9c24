"""Failures of the machine, whatever inputs a network was given."""

from __future__ import annotations

import torch

_NO_MEMORY = ("can't allocate memory", "out of memory")  # of the CPU and of Apple's GPU
_BROKEN = ("CUDA error", "HIP error")  # every call fails from then on


def lacks_memory(error: BaseException) -> bool:
    """Whether memory ran out: torch has a class of its own for some devices alone."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _NO_MEMORY)


def of_machine(error: BaseException) -> bool:
    """Whether the machine failed, whatever the inputs."""
    broken = isinstance(error, RuntimeError) and any(words in str(error) for words in _BROKEN)
    return broken or lacks_memory(error)
