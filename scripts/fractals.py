"""Sixty-four fractals, and what PixMix makes of digits with them.

``python scripts/fractals.py [FOLDER]`` writes ``fractals.png`` and ``pixmix.png`` there; the
picture in the documentation is ``python scripts/fractals.py docs/images``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from offmap._utils.files import atomic
from offmap.data import embedded
from offmap.training.fractals import fractals
from offmap.training.pixmix import PixMix

folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path()


def save(images: Tensor, path: Path) -> None:
    """Images ``(64, 3, h, w)`` in eight rows of eight."""
    _, c, h, w = images.shape
    grid = images.view(8, 8, c, h, w).permute(0, 3, 1, 4, 2).reshape(8 * h, 8 * w, c)
    picture = Image.fromarray(grid.expand(-1, -1, 3).numpy())
    with atomic(path) as temporary:
        picture.quantize(256).save(temporary, optimize=True)  # a third of the size


# The mixing set. A seed gives the same pictures everywhere they are needed.
save(fractals(64, 64).images, folder / "fractals.png")


# Digits, each with random decisions of its own; the pictures become grey like them.
digits = embedded("digits", size=32).take(64, 0)
pixmix = PixMix(fractals(64, 36))
mixed = pixmix(digits.images, torch.Generator().manual_seed(0))
save((255 * mixed).round().to(torch.uint8), folder / "pixmix.png")
