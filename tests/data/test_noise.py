from __future__ import annotations

import pytest
import torch
from scipy.ndimage import gaussian_filter

from offmap.data import NOISE_KINDS, ImageSet, noise, patch_shuffle
from offmap.errors import ArgumentError, ShapeError, UnknownNameError

SHAPE = (3, 32, 32)


def pictures(n: int = 6, shape: tuple[int, int, int] = SHAPE) -> ImageSet:
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(256, (n, *shape), generator=generator, dtype=torch.uint8)
    return ImageSet("pictures", images, torch.arange(n), transform="as drawn")


@pytest.mark.parametrize("kind", NOISE_KINDS)
def test_a_seed_gives_the_same_bits_and_another_seed_others(kind: str) -> None:
    like = pictures()
    first, again, other = (noise(kind, 5, SHAPE, seed=s, like=like) for s in (1, 1, 2))
    assert first.fingerprint == again.fingerprint != other.fingerprint
    assert first.name == f"noise:{kind}"
    assert first.shape == SHAPE
    assert len(first) == 5
    assert first.labels is None


@pytest.mark.parametrize(
    ("kind", "fourth", "largest"),
    [("rademacher", 1.0, 1.0), ("gaussian", 3.0, 6.0), ("uniform", 1.8, 3**0.5)],
)
def test_moments_in_normalised_space(kind: str, fourth: float, largest: float) -> None:
    x = noise(kind, 200, SHAPE).images
    assert x.dtype == torch.float32
    # 614,400 values: the standard error of a mean is 0.0013.
    assert x.mean().item() == pytest.approx(0, abs=0.006)
    assert x.square().mean().item() == pytest.approx(1, abs=0.01)
    assert x.pow(4).mean().item() == pytest.approx(fourth, abs=0.08)
    assert x.abs().max().item() <= largest


def test_rademacher_has_two_values() -> None:
    assert noise("rademacher", 10, SHAPE).images.unique().tolist() == [-1, 1]


def test_blobs_are_the_blurred_dots_of_outlier_exposure() -> None:
    data = noise("blobs", 4, SHAPE, seed=3)
    dots = torch.rand(4, *SHAPE, generator=torch.Generator().manual_seed(3)) < 0.7
    for dot, image in zip(dots.double().numpy(), data.images.numpy(), strict=True):
        soft = gaussian_filter(dot, sigma=1.5, mode="nearest")  # over all three axes
        soft[soft < 0.75] = 0
        assert abs(image - 255 * soft).max() <= 0.51
    values = data.images.unique()
    assert values[0] == 0
    assert values[1] >= round(255 * 0.75)


def as_patches(images: torch.Tensor, side: int) -> list[list[bytes]]:
    cut = images.unfold(2, side, side).unfold(3, side, side).permute(0, 2, 3, 1, 4, 5)
    return [[p.numpy().tobytes() for p in image.flatten(0, 1).contiguous()] for image in cut]


def test_shuffled_images_keep_every_patch_and_nothing_else() -> None:
    like = pictures()
    data = noise("shuffled", 6, SHAPE, like=like)
    assert data.images.dtype == torch.uint8
    assert data.transform == "as drawn; 8x8 patches shuffled"
    before, after = as_patches(like.images, 4), as_patches(data.images, 4)
    moved = [[b.index(patch) for patch in a] for b, a in zip(before, after, strict=True)]
    assert all(sorted(order) == list(range(64)) for order in moved)
    assert len({tuple(order) for order in moved}) == 6  # each image in its own order


@pytest.mark.parametrize(("side", "grid"), [(8, 8), (28, 7), (25, 5), (224, 8), (12, 6)])
def test_the_grid_is_the_largest_that_divides(side: int, grid: int) -> None:
    like = pictures(2, (1, side, side))
    data = noise("shuffled", 2, like.shape, like=like)
    assert data.transform.endswith(f"{grid}x{grid} patches shuffled")


def test_fewer_shuffled_images_are_a_seeded_choice() -> None:
    like = pictures()
    data = noise("shuffled", 2, SHAPE, like=like, seed=4)
    kept = like.take(2, seed=4).images
    assert torch.equal(data.images.flatten(1).sort().values, kept.flatten(1).sort().values)


def test_patch_shuffle_works_for_any_type_and_sides() -> None:
    images = torch.arange(2 * 3 * 4 * 6).reshape(2, 3, 4, 6).float()
    before = torch.Generator().manual_seed(0)
    shuffled = patch_shuffle(images, 2, before)
    assert shuffled.shape == images.shape
    assert torch.equal(shuffled.flatten(1).sort().values, images.flatten(1).sort().values)
    # The generator goes on: a second call draws other orders.
    assert not torch.equal(patch_shuffle(images.repeat(9, 1, 1, 1), 2, before)[:2], shuffled)
    assert torch.equal(patch_shuffle(images, 1, before), images)


def test_errors_say_what_is_missing() -> None:
    with pytest.raises(UnknownNameError, match="no noise 'pink': there are blobs"):
        noise("pink", 1, SHAPE)
    with pytest.raises(ArgumentError, match="must be positive"):
        noise("gaussian", 0, SHAPE)
    with pytest.raises(ArgumentError, match="at least 3 images; seen none"):
        noise("shuffled", 3, SHAPE)
    with pytest.raises(ArgumentError, match="at least 7 images; seen 6"):
        noise("shuffled", 7, SHAPE, like=pictures())
    with pytest.raises(ShapeError, match=r"pictures has \(3, 32, 32\)"):
        noise("shuffled", 3, (1, 32, 32), like=pictures())
    with pytest.raises(ShapeError, match="no grid of 2 to 8 a side divides images of 29x29"):
        noise("shuffled", 1, (1, 29, 29), like=pictures(1, (1, 29, 29)))
    with pytest.raises(ShapeError, match="a grid of 5 a side does not divide"):
        patch_shuffle(pictures().images, 5, torch.Generator())
