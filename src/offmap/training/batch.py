"""Input and output of an objective."""

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
    """The images of one step, augmented and normalised.

    Args:
        images: training images, ``(n, k, h, w)``; for an ensemble those of its first member, then
            those of its second, and so on, in equal numbers.
        labels: their classes, ``(n,)``.
        outliers: OOD images used in training, ``(m, k, h, w)``, where the recipe names some.
        contrast: images on which the members of an ensemble are to disagree, ``(m, k, h, w)``.
        ordinary: whether the contrast images are training images with their meaning.
    """

    images: Float[Tensor, "n k h w"]
    labels: Int64[Tensor, " n"]
    outliers: Float[Tensor, "m k h w"] | None = None
    contrast: Float[Tensor, "m k h w"] | None = None
    ordinary: bool = False


@dataclass(frozen=True)
class Outcome:
    """The loss of a batch, ``()``, and the logits of its training images, ``(n, c)``.

    The logits of an ensemble are those of the members, each on its own images, and not their mean.
    """

    loss: Float[Tensor, ""]
    logits: Float[Tensor, "n c"]


Objective = Callable[[nn.Module, Batch], Outcome]


def member_logits(network: nn.Module, images: Float[Tensor, "n k h w"]) -> Float[Tensor, "n c"]:
    """The logits, as float32; of an ensemble, those of every member on its own part of the images.

    Since the parts are equal, a mean over these rows is the mean of the members' means.

    Raises:
        ShapeError: the images do not divide into equal parts.
    """
    if not isinstance(network, HasMembers):
        logits: Tensor = network(images)
        return logits.float()
    members = list(network.members)
    if len(images) % len(members):
        raise ShapeError(
            f"{len(images)} images do not divide into equal parts for {len(members)} members: give "
            "the batches of the members one after another"
        )
    parts = images.chunk(len(members))
    return torch.cat([member(x) for member, x in zip(members, parts, strict=True)]).float()
