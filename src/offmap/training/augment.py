"""Augmentation of batches on their device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from offmap.errors import MissingExtraError
from offmap.forward import Normalization
from offmap.training.recipe import Recipe

Images = Float[Tensor, "n k h w"]


class Augment(nn.Module):
    """From uint8 images to the input of the network in training: augmented, then normalised.

    Crop, flip, rotation and jitter, then PixMix, then the normalisation, then erasing, which thus
    erases to the mean colour. Randomness is that of the global generator, the only one that kornia
    uses: call it inside ``seeded``.

    Args:
        recipe: which augmentations, and how strong.
        size: height and width.
        normalization: of the images.
        mix: PixMix, or another map of images in [0, 1].

    Raises:
        MissingExtraError: kornia is not installed.
    """

    def __init__(
        self,
        recipe: Recipe,
        size: tuple[int, int],
        normalization: Normalization,
        mix: Callable[[Images], Images] | None = None,
    ) -> None:
        super().__init__()
        before: list[Any] = []
        after: list[Any] = []
        if any((recipe.crop, recipe.flip, recipe.rotation, recipe.jitter, recipe.erasing)):
            try:
                from kornia import augmentation as k
            except ImportError as error:
                raise MissingExtraError("kornia", "train") from error
            if recipe.crop:
                before.append(k.RandomCrop(size, padding=recipe.crop))
            if recipe.flip:
                before.append(k.RandomHorizontalFlip())
            if recipe.rotation:
                before.append(k.RandomRotation(recipe.rotation, p=1.0))  # by default 0.5
            if recipe.jitter:
                before.append(k.ColorJitter(*recipe.jitter))
            if recipe.erasing:
                after.append(k.RandomErasing(p=recipe.erasing))
        self.before, self.after = nn.Sequential(*before), nn.Sequential(*after)
        self.mix = mix
        self.normalization = normalization

    def forward(self, images: UInt8[Tensor, "n k h w"]) -> Images:
        # Autocast would draw the coordinates of a rotation in 8 bits.
        with torch.autocast(images.device.type, enabled=False):
            x = self.before(images.float().div_(255))
            if self.mix is not None:
                # Interpolation may take white a bit above 1, which PixMix refuses.
                x = self.mix(x.clamp(0, 1))
            x = self.normalization.of_unit(x)
            return self.after(x)  # type: ignore[no-any-return]
