"""What every image goes through: orientation, channels, size."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from numbers import Integral

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from offmap._utils.pictures import as_array, plain, upright
from offmap.data.types import Resize, check_resize
from offmap.errors import ArgumentError


@dataclass(frozen=True)
class Preprocessing:
    """What every image goes through.

    Args:
        channels: 1 or 3; colour becomes grey by PIL's "L", grey becomes colour by repetition.
        size: height and width to bring it to (bicubic, antialiased); ``None`` keeps its own.
        resize: "crop" or "squash", see :data:`offmap.data.types.Resize`.

    Raises:
        ArgumentError: ``channels`` is neither.
        UnknownNameError: ``resize`` is neither.
    """

    channels: int
    size: tuple[int, int] | None
    resize: Resize = "crop"

    def __post_init__(self) -> None:
        if self.channels not in (1, 3):
            raise ArgumentError(
                f"channels must be 1 (grey), 3 (colour) or None; seen {self.channels}"
            )
        check_resize(self.resize)

    def __str__(self) -> str:
        colour = "RGB" if self.channels == 3 else "grey"
        if self.size is None:
            return f"size as stored; {colour}"
        h, w = self.size
        if self.resize == "squash":
            return f"squashed to {h}x{w}, bicubic; {colour}"
        if h == w:
            return f"shorter side to {h}, bicubic; centre crop {h}; {colour}"
        return f"scaled to cover {h}x{w}, bicubic; centre crop {h}x{w}; {colour}"

    @property
    def bytes(self) -> int:
        """Bytes of a value."""
        return 1

    def pixels(self, image: Image.Image) -> NDArray[np.uint8]:
        """The image in these channels and size, as an array ``(c, h, w)``."""
        return as_array(self(image))

    def __call__(self, image: Image.Image) -> Image.Image:
        """The image in these channels and size; one that has them keeps every bit."""
        image = plain(upright(image)).convert("RGB" if self.channels == 3 else "L")
        if self.size is None:
            return image
        h, w = self.size
        if self.resize == "squash":
            return _scale(image, h, w)
        scale = max(h / image.height, w / image.width)
        if scale != 1:
            width, height = max(w, round(image.width * scale)), max(h, round(image.height * scale))
            # A line of pixels, blown up.
            if prod((width, height)) > (Image.MAX_IMAGE_PIXELS or 0) > 0:
                raise ValueError(f"{image.width}x{image.height} would become {width}x{height}")
            image = _scale(image, height, width)
        left, top = (image.width - w) // 2, (image.height - h) // 2
        return image.crop((left, top, left + w, top + h))


def as_size(size: int | tuple[int, int] | None) -> tuple[int, int] | None:
    """Height and width."""
    if size is None:
        return None
    pair = size if isinstance(size, tuple | list) else (size, size)
    if len(pair) != 2 or not all(isinstance(side, Integral) and side > 0 for side in pair):
        raise ArgumentError(
            f"size must be a positive whole number or a pair (h, w) of them; seen {size!r}"
        )
    return int(pair[0]), int(pair[1])


def _scale(image: Image.Image, h: int, w: int) -> Image.Image:
    if image.size == (w, h):
        return image
    return image.resize((w, h), Image.Resampling.BICUBIC)
