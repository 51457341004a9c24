"""Random numbers of a generator, the same whatever torch's default device and type are."""

from __future__ import annotations

import torch
from torch import Tensor


def uniform(*size: int, generator: torch.Generator) -> Tensor:
    """Between 0 and 1, in float32, where the generator is."""
    return torch.rand(size, generator=generator, device=generator.device, dtype=torch.float32)


def normal(*size: int, generator: torch.Generator) -> Tensor:
    """Of mean 0 and variance 1, in float32, where the generator is."""
    return torch.randn(size, generator=generator, device=generator.device, dtype=torch.float32)
