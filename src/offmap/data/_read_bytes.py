"""One encoded image from memory, such as a service is sent."""

from __future__ import annotations

import torch
from PIL import Image
from torch import Tensor

from offmap.data._decode import Pixels, Skipped, attempt
from offmap.data._own_transform import OwnTransform
from offmap.data._preprocessing import Preprocessing
from offmap.data.types import Resize


def read_image(
    content: bytes,
    shape: tuple[int, int, int],
    *,
    name: str = "",
    resize: Resize = "crop",
    own: OwnTransform | None = None,
    max_pixels: int | None = None,
) -> Tensor | Skipped:
    """An encoded image as a tensor ``(c, h, w)``, or why it cannot be read.

    Args:
        content: of a JPEG, PNG, WebP, BMP, GIF, TIFF or PPM file.
        shape: channels, height and width to bring it to.
        name: of it, for the message.
        resize: "crop" or "squash", as for :func:`load`.
        own: a function that makes the image, in the place of these.
        max_pixels: an image with more is refused, by its header alone; and one that would have
            more once it covers the shape.
    """
    channels, height, width = shape
    preprocessing = own or Preprocessing(channels, (height, width), resize)

    def look(image: Image.Image) -> Pixels:
        # A line of few pixels would be blown up to many.
        scale = max(1, height / image.height, width / image.width)
        if max_pixels is not None and int(image.width * image.height * scale * scale) > max_pixels:
            raise ValueError(
                f"{image.width}x{image.height} pixels are too many: at most {max_pixels:,}"
            )
        return preprocessing.pixels(image)

    pixels = attempt((name, content), look)
    if isinstance(pixels, Skipped):
        return pixels
    if pixels.shape != shape:
        return Skipped(name, f"it became {pixels.shape}, and not {shape}")
    return torch.tensor(pixels, device="cpu")
