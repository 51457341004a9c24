"""From uint8 images to what a network was trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from offmap.errors import ArgumentError, ShapeError


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
        self._check(images)
        scale, shift = self._on(images.device)
        return images.float().mul_(scale).add_(shift)

    def of_unit(self, images: Float[Tensor, "n k h w"]) -> Float[Tensor, "n k h w"]:
        """Images in [0, 1], as augmentations make them, normalised."""
        self._check(images)
        scale, shift = self._on(images.device)
        return images * (255 * scale) + shift

    @classmethod
    def parse(cls, text: str) -> Self:
        """From ``MEAN,.../STD,...``.

        >>> Normalization.parse("0.5,0.4,0.3/0.25")
        Normalization(mean=(0.5, 0.4, 0.3), std=(0.25,))

        Raises:
            ArgumentError: the text is not that.
        """
        try:
            mean, std = (tuple(map(float, part.split(","))) for part in text.split("/"))
        except ValueError as error:
            raise ArgumentError(
                f"a normalisation is MEAN,.../STD,..., such as 0.5/0.25; {text!r} is not that"
            ) from error
        return cls(mean, std)

    def _check(self, images: Tensor) -> None:
        channels = images.shape[1]
        if len(self.mean) not in (1, channels) or len(self.std) not in (1, channels):
            raise ShapeError(
                f"images have {channels} channels, and {self} is for {len(self.mean)}: "
                "load the images with as many channels as the network was trained on"
            )

    @cached_property
    def _placed(self) -> dict[torch.device, tuple[Tensor, Tensor]]:
        """Scale and shift by device, made once for each: a guard needs them at every call."""
        return {}

    def _on(self, device: torch.device) -> tuple[Tensor, Tensor]:
        if device not in self._placed:
            self._placed[device] = self._affine(device)
        return self._placed[device]

    def _affine(self, device: torch.device) -> tuple[Tensor, Tensor]:
        mean, std = (
            torch.tensor(x, dtype=torch.float64).view(1, -1, 1, 1) for x in (self.mean, self.std)
        )
        scale, shift = 1 / (255 * std), -mean / std
        return scale.float().to(device), shift.float().to(device)
