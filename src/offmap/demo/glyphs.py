"""Glyphs of the fonts inside matplotlib's wheel, drawn at 28x28 grey pixels with seeded changes.

FreeType, by way of Pillow, draws each glyph once and large; torch then shears, turns, scales,
thickens, fades and sprinkles it, so that no two pictures are alike. One seed gives equal pictures
on one machine. Another version of FreeType or torch may draw a few pixels otherwise, and the
numbers then differ a little.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn import functional as F

from offmap._utils.draws import normal, uniform
from offmap.data import ImageSet

SIDE = 28
DEJAVU = (
    *("DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSans-BoldOblique"),
    *("DejaVuSerif", "DejaVuSerif-Bold", "DejaVuSerif-Italic", "DejaVuSerif-BoldItalic"),
    *("DejaVuSansMono", "DejaVuSansMono-Bold"),
    *("DejaVuSansMono-Oblique", "DejaVuSansMono-BoldOblique"),
)
STIX = ("STIXGeneral", "STIXGeneralBol", "STIXGeneralItalic", "STIXGeneralBolIta")
COMPUTER_MODERN = ("cmr10", "cmb10", "cmss10", "cmti10", "cmtt10")

_LARGE, _EM, _WIDEST = 64, 54, 58  # pixels of the first drawing, its em, and of a glyph in it


def drawn(
    name: str,
    letters: str,
    fonts: Sequence[str],
    count: int,
    *,
    seed: int,
    classes: tuple[str, ...] = (),
) -> ImageSet:
    """So many pictures of letters in fonts, each pair about equally often.

    Args:
        name: of the set.
        letters: which.
        fonts: names of files in matplotlib's folder, each of which has all of the letters.
        count: how many pictures.
        seed: of pairs and changes; other seeds draw other pictures.
        classes: the letters as labels, in their order; without them, the set has no labels.
    """
    generator = torch.Generator().manual_seed(seed)
    pairs = [(font, letter) for font in fonts for letter in letters]
    turns = -(-count // len(pairs))
    order = [torch.randperm(len(pairs), generator=generator, device="cpu") for _ in range(turns)]
    rows = torch.cat(order)[:count]
    large = torch.stack([glyph(font, letter) for font, letter in pairs])
    samples = [pairs[row] for row in rows.tolist()]
    numbers = [classes.index(letter) for _, letter in samples] if classes else []
    labels = torch.tensor(numbers, device="cpu") if classes else None
    keys = tuple(f"{letter} {font} {i}" for i, (font, letter) in enumerate(samples))
    images = changed(large[rows], generator)
    transform = f"drawn at {SIDE}x{SIDE}, seed {seed}"
    return ImageSet(name, images, labels, classes, transform=transform, sample_keys=keys)


def glyph(font: str, letter: str) -> Float[Tensor, "64 64"]:
    """A glyph in white on black, in the middle, from 0 to 1; the widest are drawn smaller."""
    face = _face(font, _EM)
    left, _, right, _ = face.getbbox(letter)
    if right - left > _WIDEST:
        face = _face(font, int(_EM * _WIDEST / (right - left)))
    left, top, right, bottom = face.getbbox(letter)
    image = Image.new("L", (_LARGE, _LARGE))
    place = ((_LARGE - left - right) / 2, (_LARGE - top - bottom) / 2)
    ImageDraw.Draw(image).text(place, letter, fill=255, font=face)
    return torch.from_numpy(np.array(image)).float() / 255


def _face(font: str, em: int) -> ImageFont.FreeTypeFont:
    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{font}.ttf"
    # The plain layout: the other one needs a library that not every Pillow has.
    return ImageFont.truetype(str(path), em, layout_engine=ImageFont.Layout.BASIC)


def changed(
    large: Float[Tensor, "n 64 64"], generator: torch.Generator
) -> UInt8[Tensor, "n 1 28 28"]:
    """Each glyph turned, sheared, scaled, moved, thickened or thinned, faded, under noise."""
    n = len(large)

    def within(low: float, high: float) -> Float[Tensor, "n 1 1 1"]:
        return low + (high - low) * uniform(n, 1, 1, 1, generator=generator)

    # Affine maps from the picture to the large drawing.
    turn, shear, across, down = 2 * uniform(4, n, generator=generator) - 1
    wide, high = 1.1 + 0.25 * (2 * uniform(2, n, generator=generator) - 1)
    angle = 0.26 * turn  # 15 degrees
    rows = [
        torch.stack([wide * angle.cos(), wide * (0.25 * shear - angle.sin()), 0.2 * across], 1),
        torch.stack([high * angle.sin(), high * angle.cos(), 0.2 * down], 1),
    ]
    grid = F.affine_grid(torch.stack(rows, 1), [n, 1, 2 * SIDE, 2 * SIDE], align_corners=False)
    x = F.grid_sample(large[:, None], grid, align_corners=False)
    # Thicker by a share of a pixel to each side, or thinner where that is negative.
    stroke = within(-0.5, 1.0)
    thick, thin = F.max_pool2d(x, 3, 1, 1), -F.max_pool2d(-x, 3, 1, 1)
    x = x + stroke.clamp(min=0) * (thick - x) - (-stroke).clamp(min=0) * (x - thin)
    x = F.avg_pool2d(x, 2)
    ground, ink = within(0.0, 0.25), within(0.5, 1.0)
    x = ground + (ink - ground) * x
    x = x + within(0.02, 0.14) * normal(*x.shape, generator=generator)
    return (x.clamp(0, 1) * 255).round().to(torch.uint8)
