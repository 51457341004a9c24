"""Shuffled patches against a slow twin that moves them one by one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from offmap.data import patch_shuffle
from offmap.errors import ShapeError


def numbered(n: int, channels: int, height: int, width: int) -> Tensor:
    """Images in which no two values are equal."""
    return torch.arange(n * channels * height * width).view(n, channels, height, width)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def slow_shuffled(images: np.ndarray, orders: np.ndarray, grid: int) -> np.ndarray:
    """``orders[i, j]`` is the patch that comes to place j of image i, places counted by rows."""
    found = np.empty_like(images)
    height, width = images.shape[2] // grid, images.shape[3] // grid
    for i, order in enumerate(orders):
        for to, origin in enumerate(order):
            (a, b), (c, d) = divmod(to, grid), divmod(int(origin), grid)
            found[i, :, a * height : (a + 1) * height, b * width : (b + 1) * width] = images[
                i, :, c * height : (c + 1) * height, d * width : (d + 1) * width
            ]
    return found


@given(
    seed=st.integers(0, 99),
    grid=st.integers(2, 4),
    patch=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    channels=st.sampled_from([1, 3]),
)
def test_patches_move_whole(seed: int, grid: int, patch: tuple[int, int], channels: int) -> None:
    images = numbered(3, channels, grid * patch[0], grid * patch[1])
    orders = torch.rand(3, grid * grid, generator=seeded(seed)).argsort(1)
    expected = slow_shuffled(images.numpy(), orders.numpy(), grid)
    assert np.array_equal(patch_shuffle(images, grid, seeded(seed)).numpy(), expected)


def test_each_image_keeps_its_values_and_has_an_order_of_its_own() -> None:
    images = numbered(1, 3, 32, 32).expand(40, -1, -1, -1)
    found = patch_shuffle(images.contiguous(memory_format=torch.channels_last), 8, seeded(0))
    assert torch.equal(found.flatten(1).sort(1).values, images.flatten(1))
    assert len(found.flatten(1).unique(dim=0)) == 40
    assert torch.equal(found, patch_shuffle(images, 8, seeded(0)))
    assert not torch.equal(found, patch_shuffle(images, 8, seeded(1)))


def test_every_patch_comes_everywhere_equally_often() -> None:
    corners = patch_shuffle(numbered(1, 1, 4, 4).expand(4000, -1, -1, -1), 4, seeded(0))
    counts = torch.stack([(corners == value).sum(0) for value in range(16)]).flatten()
    chi = ((counts - 250.0) ** 2 / 250).sum()
    assert float(chi) < 225 + 5 * np.sqrt(2 * 225)


def test_a_grid_that_cuts_through_pixels_is_refused() -> None:
    with pytest.raises(ShapeError, match="a grid of 4 a side does not divide images of 8x9"):
        patch_shuffle(numbered(1, 1, 8, 9), 4)
