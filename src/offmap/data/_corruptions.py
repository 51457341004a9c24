"""Images of a set, made worse: still in-distribution, but not as they were."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from numbers import Integral

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from offmap._utils.arguments import did_you_mean
from offmap.data._image_set import ImageSet
from offmap.data._streamed_set import StreamedSet
from offmap.errors import ArgumentError, DataError, UnknownNameError

Pixels = NDArray[np.float64]  # of one image, in [0, 1], (c, h, w)
_SEVERITY = 3


def corrupted(
    kind: str, like: ImageSet | StreamedSet, *, severity: int = _SEVERITY, seed: int = 0
) -> ImageSet:
    """The images of a set, corrupted, with their labels and keys: ID that has shifted.

    Kinds and strengths are those of CIFAR-10-C, for images of any size: ``brightness``,
    ``contrast``, ``gaussian_blur``, ``gaussian_noise``, ``jpeg_compression`` and ``pixelate``.
    The same seed gives the same bits.

    Args:
        kind: one of these.
        like: uint8 images; they are held in memory.
        severity: from 1, hardly seen, to 5.
        seed: draws the noise.

    Raises:
        UnknownNameError: no such kind.
        ArgumentError: no such severity.
        DataError: the images are floats already, made by a transform of the user's.

    References:
        Hendrycks and Dietterich, ICLR 2019, arXiv:1903.12261, and the script of its authors for
        CIFAR-10-C.
    """
    if kind not in CORRUPTIONS:
        hint = did_you_mean(kind, CORRUPTIONS)
        raise UnknownNameError(f"no corruption {kind!r}: {hint}there are {', '.join(CORRUPTIONS)}")
    if not isinstance(severity, Integral) or severity not in range(1, 6):
        raise ArgumentError(f"the severity of {kind} is one of 1 to 5; seen {severity!r}")
    images = like.hold() if isinstance(like, StreamedSet) else like
    if images.images.dtype != torch.uint8:
        raise DataError(
            f"{kind} works on pixels from 0 to 255, and {images.name} holds numbers that are "
            "normalised: corrupt the files, or load without a transform of your own"
        )
    make, strengths = CORRUPTIONS[kind]
    rng, strength = np.random.default_rng(seed), strengths[severity - 1]
    out = np.empty(images.images.shape, np.uint8)
    for i, image in enumerate(images.images.numpy()):
        out[i] = _pixels(make(image / 255, strength, rng))
    transform = f"{images.transform}; {kind} of severity {severity}"
    name = f"{images.name}, {kind} {severity}"
    return replace(images, name=name, images=torch.from_numpy(out), transform=transform)


def _pixels(image: Pixels) -> NDArray[np.uint8]:
    scaled = (255 * image.clip(0, 1)).round()
    return scaled.astype(np.uint8)


def _brightness(image: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    """Raises the largest channel, and the others in proportion, so that the hue stays."""
    value = image.max(0)
    brighter = np.minimum(value + strength, 1)
    shares: Pixels = np.divide(image, value, out=np.ones_like(image), where=value > 0)
    pixels: Pixels = shares * brighter
    return pixels


def _contrast(image: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    mean: Pixels = image.mean((1, 2), keepdims=True)
    pixels: Pixels = (image - mean) * strength + mean
    return pixels


def _gaussian_blur(image: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    from scipy.ndimage import gaussian_filter  # here: it takes a sixth of a second

    pixels: Pixels = gaussian_filter(image, (0, strength, strength), mode="nearest")
    return pixels


def _jpeg(image: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    with BytesIO() as file:
        _picture(image).save(file, "JPEG", quality=int(strength))
        return _array(Image.open(file))


def _pixelate(image: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    picture = _picture(image)
    w, h = picture.size
    size = max(1, int(w * strength)), max(1, int(h * strength))
    small = picture.resize(size, Image.Resampling.BOX)
    return _array(small.resize((w, h), Image.Resampling.BOX))


def _picture(image: Pixels) -> Image.Image:
    pixels = _pixels(image)
    return Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))


def _array(picture: Image.Image) -> Pixels:
    array = np.asarray(picture) / 255
    return array[None] if array.ndim == 2 else array.transpose(2, 0, 1)


_Corruption = Callable[[Pixels, float, np.random.Generator], Pixels]
CORRUPTIONS: dict[str, tuple[_Corruption, tuple[float, ...]]] = {
    "brightness": (_brightness, (0.05, 0.1, 0.15, 0.2, 0.3)),
    "contrast": (_contrast, (0.75, 0.5, 0.4, 0.3, 0.15)),
    "gaussian_blur": (_gaussian_blur, (0.4, 0.6, 0.7, 0.8, 1.0)),
    "gaussian_noise": (
        lambda image, strength, rng: image + rng.normal(scale=strength, size=image.shape),
        (0.04, 0.06, 0.08, 0.09, 0.1),
    ),
    "jpeg_compression": (_jpeg, (80, 65, 58, 50, 40)),
    "pixelate": (_pixelate, (0.95, 0.9, 0.85, 0.75, 0.65)),
}
