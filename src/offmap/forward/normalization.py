"""From uint8 images to what a network was trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from offmap.errors import ShapeError


@dataclass(frozen=True)
class Normalization:
    """Channel means and deviations, of images in [0, 1].

    Only uint8 images are normalised: ``(x / 255 - mean) / std``. Floating-point images pass as they
    are, because they are taken to be normalised already.

    Args:
        mean: one value a channel, or one for all.
        std: likewise.
    """

    mean: Sequence[float] = (0.0,)
    std: Sequence[float] = (1.0,)

    def __call__(self, images: UInt8[Tensor, "n k h w"]) -> Float[Tensor, "n k h w"]:
        """The images as float32, normalised."""
        channels = images.shape[1]
        if len(self.mean) not in (1, channels) or len(self.std) not in (1, channels):
            raise ShapeError(
                f"images have {channels} channels, and {self} is for {len(self.mean)}: "
                "load the images with as many channels as the network was trained on"
            )
        if images.device not in self._placed:
            self._placed[images.device] = self._affine(images.device)
        scale, shift = self._placed[images.device]
        return images.float().mul_(scale).add_(shift)

    @cached_property
    def _placed(self) -> dict[torch.device, tuple[Tensor, Tensor]]:
        """Scale and shift by device, made once for each: a guard needs them at every call."""
        return {}

    def _affine(self, device: torch.device) -> tuple[Tensor, Tensor]:
        mean, std = (
            torch.tensor(x, dtype=torch.float64).view(1, -1, 1, 1) for x in (self.mean, self.std)
        )
        scale, shift = 1 / (255 * std), -mean / std
        return scale.float().to(device), shift.float().to(device)
