"""The last linear layer of a classifier, or of each member of an ensemble."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


class HasMembers(nn.Module):
    """A network that runs member by member: see :class:`offmap.networks.Ensemble`."""

    members: nn.ModuleList


@dataclass(frozen=True)
class Head:
    """The last linear layer of a classifier: ``logits = features @ weight.T + bias``.

    Args:
        weight: ``(c, d)``.
        bias: ``(c,)``, or ``None`` for a layer without one.
        negatives: rows for names that are no class, as a zero-shot network has them, ``(m, d)``.
    """

    weight: Float[Tensor, "c d"]
    bias: Float[Tensor, " c"] | None = None
    negatives: Float[Tensor, "m d"] | None = None

    def __call__(self, features: Float[Tensor, "n d"]) -> Float[Tensor, "n c"]:
        """The logits of these features."""
        return F.linear(features, self.weight, self.bias)

    def to(self, device: torch.device) -> Head:
        """The same head on a device."""
        tensors = [None if x is None else x.to(device) for x in (self.bias, self.negatives)]
        return Head(self.weight.to(device), *tensors)


# The heads of an ensemble's members, in their order; ``None`` for a member without one.
Heads = tuple[Head | None, ...]
