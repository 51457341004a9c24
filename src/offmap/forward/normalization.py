"""From uint8 images to what a network was trained on."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, Self

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from offmap._utils.precision import has_float64
from offmap.errors import ArgumentError, DataError, ShapeError


@dataclass(frozen=True)
class Normalization:
    r"""Channel means and deviations, of images in [0, 1]; or each image by its own.

    Only uint8 images are normalised: ``(x / 255 - mean) / std``. Floating-point images pass as they
    are, because they are taken to be normalised already.

    With ``per_image``, each image has its own mean and deviation, in grey levels from 0 to 255 and
    over all of its :math:`N` pixels and channels:

    .. math:: (x - \mu) / \max(\sigma, 1 / \sqrt N)

    An image of one colour thus becomes zeros.

    Args:
        mean: one value a channel, or one for all.
        std: likewise.
        per_image: in their place, those of each image.
        known: false where images come normalised by unknown values: uint8 ones are refused.

    Raises:
        ArgumentError: both kinds are asked for; or means or deviations that no images in [0, 1]
            have.

    References:
        The second is TensorFlow's ``tf.image.per_image_standardization``.
    """

    mean: Sequence[float] = (0.0,)
    std: Sequence[float] = (1.0,)
    per_image: bool = False
    known: bool = True

    def __post_init__(self) -> None:
        for name in ("mean", "std"):  # lists of a file; tensors, arrays: a record holds numbers
            try:
                numbers = tuple(map(float, getattr(self, name)))
            except (TypeError, ValueError) as error:
                raise ArgumentError(
                    f"{name} must be numbers, one a channel or one for all, as (0.5,); seen "
                    f"{getattr(self, name)!r}"
                ) from error
            object.__setattr__(self, name, numbers)
        if self.per_image and (self.mean, self.std) != ((0.0,), (1.0,)):
            raise ArgumentError(
                "per_image takes mean and deviation from each image: give no mean and std with it"
            )
        finite = all(map(math.isfinite, (*self.mean, *self.std)))
        if not finite or not self.mean or min(self.std, default=0) <= 0:
            raise ArgumentError(f"means are numbers, and deviations above 0; seen {self!r}")
        if abs(greatest := max(self.mean, key=abs)) > 1:
            raise ArgumentError(
                f"means and deviations are those of images in [0, 1], and {greatest:g} is none: "
                "divide both by 255"
            )

    def __call__(self, images: UInt8[Tensor, "n ..."]) -> Float[Tensor, "n ..."]:
        """The images as float32, normalised; ``(n, k, h, w)``, grey ones ``(n, h, w)``, or videos.

        Raises:
            DataError: the normalisation is not known.
        """
        if not self.known:
            raise DataError(
                "these images are uint8, and the network was first given normalised floats: give "
                "normalization=, what it was trained with, or normalised floats throughout"
            )
        if self.per_image:
            return _standardised(images.float())
        scale, shift = self._scale_and_shift(images)
        return images.float().mul_(scale).add_(shift)

    def of_unit(self, images: Float[Tensor, "n ..."]) -> Float[Tensor, "n ..."]:
        """Normalise images in [0, 1], such as those of augmentations."""
        if self.per_image:
            return _standardised(255 * images)
        scale, shift = self._scale_and_shift(images)
        return images * (255 * scale) + shift

    def record(self) -> dict[str, Any]:
        """Plain values, from which ``Normalization(**record)`` is the same."""
        if not self.known:
            return {"known": False}
        if self.per_image:
            return {"per_image": True}
        return {"mean": list(self.mean), "std": list(self.std)}

    @classmethod
    def parse(cls, text: str) -> Self:
        """From ``MEAN,.../STD,...``, ``per_image``, or ``none``.

        Names of data sets and of the zoo are for :func:`offmap.training.normalization`.

        >>> Normalization.parse("0.5,0.4,0.3/0.25").mean
        (0.5, 0.4, 0.3)

        Raises:
            ArgumentError: the text is not that.
        """
        if text == "none":
            return cls()
        if text == "per_image":
            return cls(per_image=True)
        try:
            mean, std = (tuple(map(float, part.split(","))) for part in text.split("/"))
        except ValueError as error:
            raise ArgumentError(
                "a normalisation is none, MEAN,.../STD,..., such as 0.5/0.25, or per_image; "
                f"{text!r} is not that"
            ) from error
        return cls(mean, std)

    def _scale_and_shift(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Scale and shift, along the axis of the channels."""
        device = images.device
        if device not in self._placed:
            mean, std = (
                torch.tensor(x, dtype=torch.float64, device="cpu") for x in (self.mean, self.std)
            )
            scale, shift = 1 / (255 * std), -mean / std
            self._placed[device] = scale.float().to(device), shift.float().to(device)
        shape = [1] * images.ndim
        shape[self._axis(images)] = -1
        scale, shift = self._placed[device]
        return scale.view(shape), shift.view(shape)

    def _axis(self, images: Tensor) -> int:
        """The axis of the channels: the first after the samples, or in videos the second.

        Raises:
            ShapeError: none has as many as there are means, or in videos both.
        """
        channels = max(len(self.mean), len(self.std))
        if channels == 1:
            return 1
        axes = range(1, images.ndim - 2)
        fits = [axis for axis in axes if images.shape[axis] == channels]
        if not fits or not {len(self.mean), len(self.std)} <= {1, channels}:
            number = images.shape[1] if images.ndim > 3 else 1
            raise ShapeError(
                f"images have {number} channels, and {self} is for {channels}: "
                "load the images with as many channels as the network was trained on"
            )
        if len(fits) > 1:
            raise ShapeError(
                f"images of shape {tuple(images.shape[1:])} have two axes of {channels}, of which "
                f"either may be the channels that {self} is for: give floats, normalised already"
            )
        return fits[0]

    @cached_property
    def _placed(self) -> dict[torch.device, tuple[Tensor, Tensor]]:
        """Scale and shift by device, computed once: a guard needs them at every call."""
        return {}

    def __getstate__(self) -> dict[str, Any]:
        """The fields alone: where a copy goes, these devices may not exist."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


def _standardised(images: Tensor) -> Tensor:
    """Each image minus its mean, divided by its deviation."""
    # Sums in float64: in float32 the mean of a large image of one colour would be another colour.
    centred = images - _mean(images)
    if not has_float64(images.device):  # the error of the float32 mean
        centred = centred - _mean(centred)
    floor = 1 / math.sqrt(math.prod(images.shape[1:]))
    return centred / _mean(centred.square(), then=torch.sqrt).clamp(min=floor)


def _mean(x: Tensor, then: Callable[[Tensor], Tensor] = lambda mean: mean) -> Tensor:
    dtype = torch.float64 if has_float64(x.device) else torch.float32
    return then(x.mean(tuple(range(1, x.ndim)), keepdim=True, dtype=dtype)).float()
