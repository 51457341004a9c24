"""Pictures of Pillow as pixels: turned upright, grey or colour, 8 bits.

A picture is turned as the camera's orientation mark (EXIF) says. Pixels are taken as stored:
transparency is dropped, 16-bit grey is scaled to 8 bits, a palette counts as colour, and of an
animation the first frame counts.
"""

from __future__ import annotations

from contextlib import suppress

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps

_DEEP = frozenset({"I", "I;16", "I;16B", "I;16L", "I;16N"})
_GREY = _DEEP | {"1", "L", "LA", "La", "F"}


def count_channels(image: Image.Image) -> int:
    """Channels of an image: 3 for any kind of colour, 1 for any kind of grey."""
    return 1 if image.mode in _GREY else 3


def shape_of(image: Image.Image) -> tuple[int, int, int]:
    """Channels, height and width of an image, turned upright; of one that is damaged, as stored."""
    channels = count_channels(image)
    # A PNG may state its orientation behind its pixels. If these are damaged, the header counts.
    with suppress(Exception):
        upright(image)
    return channels, image.height, image.width


def upright(image: Image.Image) -> Image.Image:
    """The image, decoded and turned by its orientation mark; a broken mark is ignored."""
    image.load()
    try:
        ImageOps.exif_transpose(image, in_place=True)  # else all others would be copied
    except Exception:  # the pixels are intact, only the metadata is broken
        return image
    return image


def plain(image: Image.Image) -> Image.Image:
    """The image with 8 bits a channel.

    Raises:
        ValueError: floats, or more than 16 bits.
    """
    if image.mode == "F":
        raise ValueError("pixels are floats, whose range is not known: store them as 8 bits")
    if image.mode in _DEEP:
        # PIL's own conversion of 16-bit grey clips at 255 in some versions and shifts in others.
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > 0xFFFF:
            raise ValueError(f"pixels from {values.min()} to {values.max()}: more than 16 bits")
        return Image.fromarray(((values + 128) // 257).astype(np.uint8))
    if image.mode == "P" and "transparency" in image.info:
        return image.convert("RGBA")  # PIL warns about the direct way to RGB
    return image


def pixels_of(image: Image.Image) -> UInt8[np.ndarray, "c h w"]:
    """A copy of the pixels of an image, with 1 channel for any kind of grey, or 3.

    Raises:
        ValueError: as for :func:`plain`.
    """
    mode = "L" if count_channels(image) == 1 else "RGB"
    return as_array(plain(upright(image.copy())).convert(mode))


def as_array(image: Image.Image) -> UInt8[np.ndarray, "c h w"]:
    """A copy of the pixels of an image of mode "L" or "RGB"."""
    array = np.asarray(image)
    return np.array(array[None] if array.ndim == 2 else array.transpose(2, 0, 1), order="C")
