"""PixMix, one image at a time: float64, plain loops, from the paper's pseudocode.

The ranges of the augmentations and the laws of the weights are those of the authors' code. Random
decisions come from outside.
"""

from __future__ import annotations

from math import cos, floor, radians, sin
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from offmap.training.pixmix._augment import AUGMENTATIONS
from offmap.training.pixmix._draws import Draws

Array = np.ndarray[Any, Any]


def pixmix(image: Array, pictures: Array, draws: Draws, i: int) -> tuple[Array, Array]:
    """Image ``i`` ``(c, h, w)``, uint8 or float, with its decisions; and what float32 may miss.

    Powers of almost nothing keep few digits, so the bound goes along, pixel by pixel.
    """
    clean = image / 255 if image.dtype == np.uint8 else image.astype(float)
    picture = crop(pictures, draws, i, clean.shape)
    mixed, bound = augmented(image, draws, i, 0) if draws.augmented[i, 0] else exact(clean)
    for r in range(int(draws.rounds[i])):
        own = draws.augmented[i, r + 1]
        other, apart = augmented(image, draws, i, r + 1) if own else exact(picture)
        weights = float(draws.a[i, r]), float(draws.b[i, r])
        blend = multiply if draws.multiply[i, r] else add
        new = blend(mixed, other, *weights).clip(0, 1)
        # Both ways of mixing are monotone in both pictures: the corners are the extremes.
        corners = [
            blend((mixed + s * bound).clip(0, 1), (other + t * apart).clip(0, 1), *weights)
            for s in (-1, 1)
            for t in (-1, 1)
        ]
        # Up to here as if computed exactly; now float32, and its powers of 1e-37.
        bound = np.abs(np.stack(corners).clip(0, 1) - new).max(0) + 3e-7 + 2e-5 * new * (other == 0)
        mixed = new
    return mixed, bound


def exact(x: Array) -> tuple[Array, Array]:
    """But for the last digits of float32; black is black."""
    return x, 3e-7 * (x > 0)


def add(x: Array, y: Array, a: float, b: float) -> Array:
    return np.asarray((a * (2 * x - 1) + b * (2 * y - 1) + 1) / 2)


def multiply(x: Array, y: Array, a: float, b: float) -> Array:
    return np.asarray((2 * x) ** a * (2 * y).clip(1e-37) ** b / 2)


def crop(pictures: Array, draws: Draws, i: int, shape: tuple[int, ...]) -> Array:
    c, h, w = shape
    top, left = draws.corner[i].tolist()
    picture = pictures[int(draws.picture[i]), :, top : top + h, left : left + w] / 255
    if c < len(picture):
        return np.einsum("c,chw->hw", [0.299, 0.587, 0.114], picture)[None]
    return np.broadcast_to(picture, shape)


def augmented(image: Array, draws: Draws, i: int, slot: int) -> tuple[Array, Array]:
    if image.dtype != np.uint8:
        image = np.rint(np.float32(255) * image.astype(np.float32)).astype(np.uint8)
    name = AUGMENTATIONS[int(draws.op[i, slot])]
    return augment(image, name, float(draws.level[i, slot]), bool(draws.negative[i, slot]))


def augment(image: Array, name: str, level: float, negative: bool) -> tuple[Array, Array]:
    """One uint8 image ``(c, h, w)`` after one augmentation, in [0, 1]; and what may be missed."""
    if name in TONAL:
        channels = [np.asarray(TONAL[name](Image.fromarray(x), level)) for x in image]
        return exact(np.stack(channels) / 255)
    size = image.shape[2], image.shape[1]
    levels = transformed(image, matrix(name, level, -1 if negative else 1, size)) + 1 / 256
    values, bound = exact(np.floor(levels) / 255)
    # Where float32 may fall on the other side of a whole level.
    return values, bound + (np.abs(levels - np.rint(levels)) < 1e-3) / 255


TONAL = {
    "autocontrast": lambda x, _: ImageOps.autocontrast(x),
    "equalize": lambda x, _: ImageOps.equalize(x),
    "posterize": lambda x, level: ImageOps.posterize(x, 4 - int(level * 4 / 10)),
    "solarize": lambda x, level: ImageOps.solarize(x, 256 - int(level * 256 / 10)),
}


def matrix(name: str, level: float, sign: int, size: tuple[int, int]) -> tuple[float, ...]:
    """``a ... f``: the pixel at (x, y) comes from (a x + b y + c, d x + e y + f)."""
    w, h = size
    if name == "rotate":
        angle = radians(sign * int(level * 30 / 10))
        a, b, d, e = cos(angle), -sin(angle), sin(angle), cos(angle)
        return a, b, w / 2 - a * w / 2 - b * h / 2, d, e, h / 2 - d * w / 2 - e * h / 2
    return {
        "shear_x": (1, sign * level * 0.3 / 10, 0, 0, 1, 0),
        "shear_y": (1, 0, 0, sign * level * 0.3 / 10, 1, 0),
        "translate_x": (1, 0, sign * int(level * (w / 3) / 10), 0, 1, 0),
        "translate_y": (1, 0, 0, 0, 1, sign * int(level * (h / 3) / 10)),
    }[name]


def transformed(image: Array, m: tuple[float, ...]) -> Array:
    """Bilinear; black where a pixel's centre comes from outside; edges go on by half a pixel."""
    _, h, w = image.shape
    out = np.zeros(image.shape)
    for row in range(h):
        for column in range(w):
            x = m[0] * (column + 0.5) + m[1] * (row + 0.5) + m[2]
            y = m[3] * (column + 0.5) + m[4] * (row + 0.5) + m[5]
            if 0 <= x < w and 0 <= y < h:
                out[:, row, column] = bilinear(image, x - 0.5, y - 0.5)
    return out


def bilinear(image: Array, x: float, y: float) -> Array:
    _, h, w = image.shape
    left, top = floor(x), floor(y)
    total = np.zeros(len(image))
    for row, share_y in ((top, top + 1 - y), (top + 1, y - top)):
        for column, share_x in ((left, left + 1 - x), (left + 1, x - left)):
            inside = image[:, min(max(row, 0), h - 1), min(max(column, 0), w - 1)]
            total += share_y * share_x * inside
    return total
