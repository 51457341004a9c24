"""The augmentations of PixMix: every image of a batch gets its own.

The ranges are the published ones, those of AugMix: Hendrycks et al., ICLR 2020, arXiv:1912.02781.
"""

from __future__ import annotations

from collections.abc import Callable
from math import pi

import torch
from jaxtyping import Bool, Float32, Float64, Int64, UInt8
from torch import Tensor
from torch.nn import functional as F

_TONAL = ("autocontrast", "equalize", "posterize", "solarize")
_SPATIAL = ("rotate", "shear_x", "shear_y", "translate_x", "translate_y")
AUGMENTATIONS = _TONAL + _SPATIAL
STRONGEST = 10.0  # level at which the ranges end
# Interpolated values are rounded down to whole levels, as by Pillow: a black pixel has to stay
# black, since a power of almost nothing is something. What float32 leaves below a level counts.
_ALMOST = 1 / 256

Pixels = UInt8[Tensor, "m c h w"]
Augmented = Float32[Tensor, "m c h w"]
Table = Float64[Tensor, "m c 256"]


def augment(
    pixels: Pixels,
    op: Int64[Tensor, " m"],
    level: Float64[Tensor, " m"],
    negative: Bool[Tensor, " m"],
) -> Augmented:
    """Image ``i`` after ``AUGMENTATIONS[op[i]]``, in [0, 1].

    With ``level`` between 0 and 10, rounded down where a whole number is meant:

    * ``autocontrast``: each channel is stretched to 0 ... 255; ``equalize``: its histogram is made
      even. ``posterize``: ``4 - 0.4 level`` bits are kept. ``solarize``: what is not below
      ``256 - 25.6 level`` is inverted.
    * ``rotate`` by ``3 level`` degrees about the centre; ``shear_x``, ``shear_y`` by ``0.03 level``
      about the upper left corner; ``translate_x``, ``translate_y`` by ``level / 30`` of the side;
      the other way if ``negative``. Bilinear, rounded down to whole levels, black outside.
    """
    out = torch.empty(pixels.shape, device=pixels.device)
    for i, table in enumerate(_TABLES):  # every pixel through the table of its image and channel
        rows = (op == i).nonzero()[:, 0]
        levels = (table(pixels[rows], level[rows]) / 255).float()
        index = pixels[rows].flatten(2).long()
        out[rows] = levels.gather(2, index).view(len(rows), *pixels.shape[1:])
    rows = (op >= len(_TABLES)).nonzero()[:, 0]
    out[rows] = _apply_maps(pixels[rows], op[rows], level[rows], negative[rows])
    return out


def _autocontrast(pixels: Pixels, level: Tensor) -> Table:
    low = pixels.amin((2, 3))[..., None].double()
    high = pixels.amax((2, 3))[..., None].double()
    # In this order of operations the last bit, and so the rounding, is that of Pillow. (A number
    # divided by a tensor would be the number times the reciprocal, which may differ.)
    scale = torch.full_like(low, 255) / (high - low).clamp(min=1)
    levels = (_values(pixels) * scale - low * scale).trunc().clamp(0, 255)
    return torch.where(high > low, levels, _values(pixels))


def _equalize(pixels: Pixels, level: Tensor) -> Table:
    m, c, h, w = pixels.shape
    counts = torch.zeros(m * c, 256, dtype=torch.int64, device=pixels.device)
    index = pixels.view(m * c, h * w).long()
    counts.scatter_add_(1, index, torch.ones_like(index))
    below = counts.cumsum(1) - counts
    # The brightest value that occurs is left out: it becomes 255.
    step = below.gather(1, index.amax(1, keepdim=True)) // 255
    levels = (below + step // 2) // step.clamp(min=1)
    return torch.where(step > 0, levels.clamp(max=255), _values(pixels)).view(m, c, 256).double()


def _posterize(pixels: Pixels, level: Tensor) -> Table:
    step = 2 ** (4 + (level * 4 / 10).floor())[:, None, None]
    return ((_values(pixels) / step).floor() * step).expand(-1, pixels.shape[1], -1)


def _solarize(pixels: Pixels, level: Tensor) -> Table:
    threshold = 256 - (level * 256 / 10).floor()[:, None, None]
    values = _values(pixels)
    levels = torch.where(values < threshold, values, 255 - values)
    return levels.expand(-1, pixels.shape[1], -1)


_TABLES: tuple[Callable[[Pixels, Tensor], Table], ...] = (
    _autocontrast,
    _equalize,
    _posterize,
    _solarize,
)


def _values(pixels: Tensor) -> Float64[Tensor, " 256"]:
    return torch.arange(256, dtype=torch.float64, device=pixels.device)


def _apply_maps(pixels: Pixels, op: Tensor, level: Tensor, negative: Tensor) -> Augmented:
    """Every image through its affine map."""
    h, w = pixels.shape[2:]
    amount = (level * (1 - 2.0 * negative))[:, None, None]
    turn, shear_x, shear_y, move_x, move_y = (
        torch.where(op[:, None, None] == AUGMENTATIONS.index(name), amount, 0.0)
        for name in _SPATIAL
    )
    # Where in the image each pixel of the result lies, in pixels from the upper left corner. In
    # float64: whether a place is still inside must not depend on rounding.
    y = torch.arange(h, device=op.device).double()[:, None] + 0.5 - h / 2
    x = torch.arange(w, device=op.device).double() + 0.5 - w / 2
    angle = (turn * 30 / 10).trunc() * (pi / 180)
    cos, sin = angle.cos(), angle.sin()
    across = cos * x - sin * y + w / 2
    down = sin * x + cos * y + h / 2
    across = across + shear_x * 0.3 / 10 * (y + h / 2) + (move_x * (w / 3) / 10).trunc()
    down = down + shear_y * 0.3 / 10 * (x + w / 2) + (move_y * (h / 3) / 10).trunc()
    inside = (across >= 0) & (across < w) & (down >= 0) & (down < h)
    grid = torch.stack([2 * across / w - 1, 2 * down / h - 1], -1).float()
    samples = F.grid_sample(pixels.float(), grid, padding_mode="border", align_corners=False)
    return (samples + _ALMOST).floor() * inside[:, None] / 255
