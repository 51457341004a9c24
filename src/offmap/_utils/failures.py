"""Failures of the machine, which say nothing of what a network was given."""

from __future__ import annotations

import torch

_NO_MEMORY = ("can't allocate memory", "out of memory")  # of the CPU and of Apple's GPU
_BROKEN = ("CUDA error", "HIP error")  # every call fails from then on, whatever it is given


def lacks_memory(error: BaseException) -> bool:
    """Whether there was no memory: torch has a class of its own for that of some devices alone."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _NO_MEMORY)


def of_machine(error: BaseException) -> bool:
    """Whether the machine failed, and not what it was given."""
    broken = isinstance(error, RuntimeError) and any(words in str(error) for words in _BROKEN)
    return broken or lacks_memory(error)
