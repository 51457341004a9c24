"""Which parts of an image raise its score, by covering them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from offmap._utils.arguments import whole
from offmap.errors import ArgumentError, NonFiniteError
from offmap.guard._inputs import as_batch

if TYPE_CHECKING:
    from offmap.guard.guard import Guard

_ACROSS = 4  # squares side by side, by default, each half on the next


def occlusion(
    guard: Guard,
    image: Any,
    *,
    side: int | None = None,
    step: int | None = None,
    batch_size: int = 64,
) -> Float[Tensor, "h w"]:
    r"""How much each part of one image raises its OOD score.

    A square ``Q`` is covered by the mean colour of the image, and the score falls by
    :math:`s(x) - s(x_Q)`. A pixel has the mean over the squares that cover it: above zero it makes
    the image strange, below zero known. No camera takes such covered images, so this is a hint
    where to look, and no proof.

    Args:
        guard: calibrated, over images.
        image: one, with or without the axis of samples.
        side: of the squares; by default a quarter of the shorter side.
        step: from one to the next, at most ``side``; by default half of that.
        batch_size: covered images at a time.

    Raises:
        ArgumentError: several images, none, or a side, step or batch size that does not fit.
        NonFiniteError: the image has no finite score, or has none with a square covered.

    References:
        Zeiler and Fergus, ECCV 2014, arXiv:1311.2901, section 3.
    """
    whole("batch_size", batch_size)
    batch = as_batch(guard, image)
    if not isinstance(batch, Tensor) or batch.ndim != 4 or len(batch) != 1:
        raise ArgumentError("occlusion takes one image (c, h, w): give one of them")
    height, width = batch.shape[2:]
    side = max(1, min(height, width) // _ACROSS) if side is None else side
    whole("side", side, 1, min(height, width))
    step = max(1, side // 2) if step is None else step
    whole("step", step, 1, side)
    corners = [(y, x) for y in _starts(height, side, step) for x in _starts(width, side, step)]
    mean = batch.double().mean((0, 2, 3))
    colour = (mean.round() if batch.dtype == torch.uint8 else mean).to(batch.dtype)[:, None, None]
    score = guard(batch).scores.double()
    if not bool(score.isfinite().all()):
        raise NonFiniteError("this image has no finite score, so nothing raises it")
    total, times = torch.zeros(2, height, width, dtype=torch.float64, device="cpu")
    for start in range(0, len(corners), batch_size):
        chunk = corners[start : start + batch_size]
        images = batch.repeat(len(chunk), 1, 1, 1)
        for covered, (y, x) in zip(images, chunk, strict=True):
            covered[:, y : y + side, x : x + side] = colour
        falls = score - guard(images).scores.double()
        if not bool(falls.isfinite().all()):
            raise NonFiniteError("with a square covered, this image has no finite score: no map")
        for (y, x), fall in zip(chunk, falls.tolist(), strict=True):
            total[y : y + side, x : x + side] += fall
            times[y : y + side, x : x + side] += 1
    shares: Tensor = total / times
    return shares.float()


def _starts(length: int, side: int, step: int) -> list[int]:
    """The starts of squares that cover a side."""
    return sorted({*range(0, length - side + 1, step), length - side})
