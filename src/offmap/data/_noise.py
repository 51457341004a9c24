"""Images that show nothing."""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt
from numbers import Integral

import numpy as np
import torch
from jaxtyping import Shaped, UInt8
from torch import Tensor

from offmap._utils.arguments import did_you_mean
from offmap._utils.draws import normal, uniform
from offmap.data._image_set import ImageSet
from offmap.errors import ArgumentError, ShapeError, UnknownNameError

Shape = tuple[int, int, int]
_GRID = 8  # patches a side, at most


def noise(
    kind: str, n: int, shape: Shape, *, seed: int = 0, like: ImageSet | None = None
) -> ImageSet:
    """``n`` images of ``shape`` (c, h, w) that show nothing. The same seed gives the same bits.

    * ``rademacher``: each value -1 or +1, evenly; ``gaussian``: N(0, 1); ``uniform``: between
      -sqrt(3) and sqrt(3), of variance 1. These three are drawn in normalised space (float32).
    * ``blobs``: as in Hendrycks et al., ICLR 2019, arXiv:1812.04606 (uint8): Bernoulli(0.7) noise,
      blurred over height, width and channels by a Gaussian of sigma 1.5; what is below 0.75
      becomes black.
    * ``shuffled``: images of ``like``, each cut into a grid of patches (8 a side, or the largest
      smaller number that divides both sides) that are put back in random order: local statistics
      stay, meaning goes.

    Raises:
        UnknownNameError: no such kind.
        ArgumentError: ``n`` or ``shape`` is not of positive whole numbers, or ``like`` is missing
            or too small.
        ShapeError: images of ``like`` have another shape, or sides without a common divisor.
    """
    if kind not in NOISE_KINDS:
        hint = did_you_mean(kind, NOISE_KINDS)
        raise UnknownNameError(f"no noise {kind!r}: {hint}there are {', '.join(NOISE_KINDS)}")
    numbers = (n, *shape)
    if len(shape) != 3 or not all(isinstance(k, Integral) and k > 0 for k in numbers):
        raise ArgumentError(
            f"n and shape must be positive whole numbers, of (c, h, w); seen {n} and {shape}"
        )
    name, generator = f"noise:{kind}", torch.Generator().manual_seed(seed)
    if kind != "shuffled":
        images = _DRAWN[kind]((n, *shape), generator)
        transform = "as drawn" if kind == "blobs" else "drawn in normalised space"
        return ImageSet(name, images, transform=transform)
    if like is None or len(like) < n:
        size = "none" if like is None else len(like)
        raise ArgumentError(f"{name} needs like=, a set of at least {n} images; seen {size}")
    if like.shape != shape:
        raise ShapeError(f"{name} was asked for in shape {shape}, but {like.name} has {like.shape}")
    _, h, w = shape
    grid = max(g for g in range(1, _GRID + 1) if h % g == w % g == 0)
    if grid == 1:
        raise ShapeError(f"no grid of 2 to {_GRID} a side divides images of {h}x{w}")
    images = patch_shuffle(like.take(n, seed).images, grid, generator)
    transform = f"{like.transform}; {grid}x{grid} patches shuffled"
    return ImageSet(name, images, transform=transform)


def patch_shuffle(
    images: Shaped[Tensor, "n c h w"], grid: int, generator: torch.Generator | None = None
) -> Shaped[Tensor, "n c h w"]:
    """Cut each image into ``grid`` x ``grid`` patches and put them back in random order.

    Every image has an order of its own. Local statistics stay, and so does what a normalisation
    reads: all pixels are kept.

    Args:
        images: of any type.
        grid: patches along each side.
        generator: without one, the global generator of the CPU decides.

    Raises:
        ShapeError: ``grid`` does not divide height and width.
    """
    n, c, h, w = images.shape
    if grid < 1 or h % grid or w % grid:
        raise ShapeError(f"a grid of {grid} a side does not divide images of {h}x{w}")
    patches = images.reshape(n, c, grid, h // grid, grid, w // grid)
    patches = patches.permute(0, 2, 4, 1, 3, 5).flatten(1, 2)
    device = torch.device("cpu") if generator is None else generator.device
    draws = torch.rand(n, grid * grid, generator=generator, device=device, dtype=torch.float32)
    order = draws.argsort(dim=1).to(images.device)
    patches = patches[torch.arange(n, device=images.device)[:, None], order]
    patches = patches.reshape(n, grid, grid, c, h // grid, w // grid)
    return patches.permute(0, 3, 1, 4, 2, 5).reshape(n, c, h, w)


def _blobs(size: tuple[int, ...], generator: torch.Generator) -> UInt8[Tensor, "n c h w"]:
    from scipy.ndimage import gaussian_filter  # here: it takes a sixth of a second

    dots = (uniform(*size, generator=generator) < 0.7).float().numpy()
    # The authors blurred over the channels too, which makes the blobs nearly grey.
    soft = gaussian_filter(dots, sigma=(0, 1.5, 1.5, 1.5), mode="nearest")
    soft[soft < 0.75] = 0
    return torch.from_numpy((255 * soft).round().astype(np.uint8))


_DRAWN: dict[str, Callable[[tuple[int, ...], torch.Generator], Tensor]] = {
    "blobs": _blobs,
    "gaussian": lambda size, generator: normal(*size, generator=generator),
    "rademacher": lambda size, generator: (
        torch.randint(2, size, generator=generator, device=generator.device).float() * 2 - 1
    ),
    "uniform": lambda size, generator: (2 * uniform(*size, generator=generator) - 1) * sqrt(3),
}
NOISE_KINDS = (*_DRAWN, "shuffled")
