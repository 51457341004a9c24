"""What every image goes through: channels, then size.

Pixels are taken as stored: transparency is dropped, 16-bit grey is scaled to 8 bits, a palette
counts as colour, of an animation the first frame counts, and a camera's orientation mark is left
alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np
from PIL import Image

from offmap.errors import ArgumentError

_DEEP = frozenset({"I", "I;16", "I;16B", "I;16L", "I;16N"})
_GREY = _DEEP | {"1", "L", "LA", "La", "F"}


@dataclass(frozen=True)
class Fit:
    """What every image goes through.

    Args:
        channels: 1 or 3; colour becomes grey by PIL's "L", grey becomes colour by repetition.
        size: height and width to cover (bicubic, antialiased) and then to cut from the centre;
            ``None`` keeps the image's own.
    """

    channels: int
    size: tuple[int, int] | None

    def __str__(self) -> str:
        colour = "RGB" if self.channels == 3 else "grey"
        if self.size is None:
            return f"size as stored; {colour}"
        h, w = self.size
        if h == w:
            return f"shorter side to {h}, bicubic; centre crop {h}; {colour}"
        return f"scaled to cover {h}x{w}, bicubic; centre crop {h}x{w}; {colour}"

    def __call__(self, image: Image.Image) -> Image.Image:
        """The image made so; an image that is so already keeps every bit."""
        plain = _plain(image).convert("RGB" if self.channels == 3 else "L")
        return plain if self.size is None else _resize(plain, *self.size)


def as_size(size: int | tuple[int, int] | None) -> tuple[int, int] | None:
    """Height and width."""
    pair = (size, size) if isinstance(size, int) else size
    if pair is not None and (len(pair) != 2 or min(pair) < 1):
        raise ArgumentError(f"size must be a positive number or a pair (h, w) of them; seen {size}")
    return pair


def colours(image: Image.Image) -> int:
    """Channels of an image: 3 for any kind of colour, 1 for any kind of grey."""
    return 1 if image.mode in _GREY else 3


def _plain(image: Image.Image) -> Image.Image:
    image.load()
    if image.mode == "F":
        raise ValueError("pixels are floats, whose range is not known: store them as 8 bits")
    if image.mode in _DEEP:
        return _to_8_bits(image)
    if image.mode == "P" and "transparency" in image.info:
        return image.convert("RGBA")  # PIL warns about the direct way to RGB
    return image


def _to_8_bits(image: Image.Image) -> Image.Image:
    # PIL's own conversion of 16-bit grey clips at 255 in some versions and shifts in others.
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 0xFFFF:
        raise ValueError(f"pixels from {values.min()} to {values.max()}: more than 16 bits")
    return Image.fromarray(((values + 128) // 257).astype(np.uint8))


def _resize(image: Image.Image, h: int, w: int) -> Image.Image:
    scale = max(h / image.height, w / image.width)
    if scale != 1:
        extent = max(w, round(image.width * scale)), max(h, round(image.height * scale))
        if prod(extent) > (Image.MAX_IMAGE_PIXELS or 0) > 0:  # a line of pixels, blown up
            raise ValueError(f"{image.width}x{image.height} would become {extent[0]}x{extent[1]}")
        image = image.resize(extent, Image.Resampling.BICUBIC)
    left, top = (image.width - w) // 2, (image.height - h) // 2
    return image.crop((left, top, left + w, top + h))
