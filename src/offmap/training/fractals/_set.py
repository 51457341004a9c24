"""Pictures of fractals: a mixing set for PixMix that needs no download."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from pathlib import Path

import torch
from jaxtyping import UInt8
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from offmap._utils.files import atomic, reason_of
from offmap._utils.warning import warn_user
from offmap.data import ImageSet
from offmap.errors import ArgumentError, OffmapWarning
from offmap.training.fractals._render import render
from offmap.training.fractals._systems import Systems

VERSION = 1  # of the pictures; to be raised when a seed gives others
_TOGETHER = 32  # fractals drawn at once: their points stay in the processor's cache
_WALKERS = 2048  # points of a fractal that move at once
_FILLED = 0.35  # share of the pixels that points must visit, at least


def fractals(
    n: int, size: int | tuple[int, int], *, seed: int = 0, cache: Path | None = None
) -> ImageSet:
    """``n`` coloured fractals ``(n, 3, h, w)``, uint8. The same seed gives the same bits.

    Each is the attractor of 2 to 8 random contractive affine maps, drawn by the chaos game at twice
    the size. Brightness is the logarithm of the visits to a pixel; colour tells by which maps the
    points came there; behind it lies its own middle, enlarged. The singular values of the maps are
    chosen as by Anderson and Farrell: over ``m`` maps, ``s1 + 2 s2`` sums to about
    ``(5.5 + m) / 2``, which gives neither dust nor blots. A system whose points visit less than
    0.35 of the pixels is left out. The first pictures of a larger ``n`` are those of a smaller.

    Args:
        n: how many.
        size: side, or height and width. PixMix was published with 36 for images of 32, so that
            crops differ.
        seed: chooses the fractals.
        cache: folder that keeps them, in a file for each ``n``, ``size`` and ``seed``; a damaged
            file is made again.

    Raises:
        ArgumentError: ``n`` or ``size`` is not positive.

    Warns:
        OffmapWarning: the folder cannot be written.

    References:
        Barnsley, Fractals Everywhere, 1988. Anderson and Farrell, WACV 2022, arXiv:2110.03091.
    """
    h, w = (size, size) if isinstance(size, int) else size
    if min(n, h, w) < 1:
        raise ArgumentError(f"n and size must be positive; seen {n} and {size}")
    name = f"fractals-{n}-{h}x{w}-seed{seed}-v{VERSION}"
    path = None if cache is None else cache / f"{name}.safetensors"
    if path is not None:
        with suppress(OSError, SafetensorError, KeyError):  # absent or damaged: drawn anew
            tensors = load(path.read_bytes())
            if torch.equal(tensors["sha256"], _digest(tensors["images"])):
                return ImageSet(name, tensors["images"], transform="as drawn")
    generator = torch.Generator().manual_seed(seed)
    batches: list[Tensor] = []
    while sum(map(len, batches)) < n:
        systems = Systems.random(_TOGETHER, _WALKERS, generator)
        pictures, shares = render(systems, h, w, generator)
        batches.append(pictures[shares >= _FILLED])
    images = torch.cat(batches)[:n].contiguous()
    if path is not None:
        try:
            with atomic(path, sync=False) as temporary:
                temporary.write_bytes(save({"images": images, "sha256": _digest(images)}))
        except OSError as error:
            words = (
                f"the fractals cannot be kept ({reason_of(error)}): they are drawn anew next time"
            )
            warn_user(words, OffmapWarning)
    return ImageSet(name, images, transform="as drawn")


def _digest(images: UInt8[Tensor, "n 3 h w"]) -> UInt8[Tensor, "32"]:
    digest = hashlib.sha256(images.numpy().data).digest()
    return torch.tensor(list(digest), dtype=torch.uint8, device="cpu")
