"""Images that keep the looks of training images and lose what they mean."""

from __future__ import annotations

import torch
from jaxtyping import Shaped
from torch import Tensor

from offmap.errors import ShapeError


def shuffled(
    images: Shaped[Tensor, "n k h w"], grid: int, generator: torch.Generator | None = None
) -> Shaped[Tensor, "n k h w"]:
    """Each image cut into ``grid`` times ``grid`` patches, and these put in a random order.

    Local statistics stay as they are, and so does what a normalisation reads.

    Args:
        images: of any type.
        grid: patches along each side.
        generator: on the CPU; else the global one decides. Each image has an order of its own.

    Raises:
        ShapeError: a side is not a multiple of the grid.
    """
    check_grid((int(images.shape[2]), int(images.shape[3])), grid)
    n, channels, height, width = images.shape
    patch = (height // grid, width // grid)
    cut = images.reshape(n, channels, grid, patch[0], grid, patch[1])
    patches = cut.permute(0, 2, 4, 1, 3, 5).flatten(1, 2)
    order = torch.rand(n, grid * grid, generator=generator).argsort(1).to(images.device)
    moved = patches[torch.arange(n, device=images.device)[:, None], order]
    uncut = moved.reshape(n, grid, grid, channels, *patch).permute(0, 3, 1, 4, 2, 5)
    return uncut.reshape(images.shape)


def check_grid(size: tuple[int, int], grid: int) -> None:
    """Refuse a grid that cuts through pixels.

    Raises:
        ShapeError: a side is not a multiple of the grid.
    """
    if any(side % grid for side in size):
        raise ShapeError(
            f"images of {size[0]}x{size[1]} cannot be cut into {grid}x{grid} equal patches: give a "
            "contrast_grid that divides both sides"
        )
