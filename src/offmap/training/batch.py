"""What an objective is given, and what it gives back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from offmap.activations import HasMembers
from offmap.errors import ShapeError


@dataclass(frozen=True)
class Batch:
    """What one step sees, augmented and normalised.

    Args:
        images: training images, ``(n, k, h, w)``; for an ensemble those of its first member, then
            those of its second, ..., as many for each.
        labels: their classes, ``(n,)``.
        outliers: OOD images used in training, ``(m, k, h, w)``, where the recipe names some.
        contrast: images on which the members of an ensemble are to disagree, ``(m, k, h, w)``.
        ordinary: whether those are training images as they are, and not such as have lost their
            meaning.
    """

    images: Float[Tensor, "n k h w"]
    labels: Int64[Tensor, " n"]
    outliers: Float[Tensor, "m k h w"] | None = None
    contrast: Float[Tensor, "m k h w"] | None = None
    ordinary: bool = False


@dataclass(frozen=True)
class Outcome:
    """The loss of a batch, ``()``, and the logits of its training images, ``(n, c)``.

    Those of an ensemble are what each member says of its own images, and not what all say together.
    """

    loss: Float[Tensor, ""]
    logits: Float[Tensor, "n c"]


Objective = Callable[[nn.Module, Batch], Outcome]


def own_logits(network: nn.Module, images: Float[Tensor, "n k h w"]) -> Float[Tensor, "n c"]:
    """The logits, as float32; each member of an ensemble answers for its own images alone.

    Since all have as many, a mean over these rows is the mean of the members' means.

    Raises:
        ShapeError: the images are not as many for each member.
    """
    if not isinstance(network, HasMembers):
        logits: Tensor = network(images)
        return logits.float()
    members = list(network.members)
    if len(images) % len(members):
        raise ShapeError(
            f"{len(images)} images are not as many for each of {len(members)} members: give each "
            "its own batch, one after another"
        )
    shares = images.chunk(len(members))
    return torch.cat([member(x) for member, x in zip(members, shares, strict=True)]).float()
