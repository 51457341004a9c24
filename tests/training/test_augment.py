"""Augmentation of whole batches."""

from __future__ import annotations

import torch
from torch import Tensor

from offmap.forward import Normalization
from offmap.training import Recipe
from offmap.training._seeds import derive_seed, seeded
from offmap.training.augment import Augment

CPU = torch.device("cpu")
PLAIN = Recipe(network="resnet20", data="cifar10")
NORMALIZATION = Normalization((0.5, 0.4, 0.3), (0.25, 0.2, 0.5))


def images(n: int = 64) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(1, 256, (n, 3, 8, 8), generator=generator).byte()


def augmented(**changes: object) -> Tensor:
    augment = Augment(PLAIN.but(changes), (8, 8), NORMALIZATION)
    with seeded(CPU, 0, "test"):
        return augment(images())


def test_without_steps_images_are_normalised_only() -> None:
    assert torch.allclose(augmented(), NORMALIZATION(images()), atol=1e-6)


def test_a_crop_is_a_window_of_the_padded_image() -> None:
    padded = torch.nn.functional.pad(images().float() / 255, (2, 2, 2, 2))
    windows = padded.unfold(2, 8, 1).unfold(3, 8, 1).permute(0, 2, 3, 1, 4, 5).flatten(1, 2)
    found = NORMALIZATION.of_unit(windows.flatten(0, 1)).unflatten(0, (64, 25))
    same = (found - augmented(crop=2)[:, None]).abs().flatten(2).amax(2) < 1e-5
    assert (same.sum(1) == 1).all()
    assert len(same.nonzero()[:, 1].unique()) > 15  # of 25 places, most are used


def test_about_half_of_the_images_are_flipped() -> None:
    plain, found = augmented(), augmented(flip=True)
    kept = (found - plain).abs().flatten(1).amax(1) < 1e-5
    turned = (found - plain.flip(3)).abs().flatten(1).amax(1) < 1e-5
    assert (kept ^ turned).all()
    assert 16 < int(turned.sum()) < 48


def test_erasing_is_to_the_mean_colour_of_some_images() -> None:
    plain, found = augmented(), augmented(erasing=0.5)
    changed = (found != plain).flatten(1).any(1)
    assert 16 < int(changed.sum()) < 48
    assert (found[found != plain] == 0).all()


def test_rotation_and_jitter_keep_shape_and_range() -> None:
    found = augmented(rotation=15.0, jitter=[0.2, 0.2, 0.2, 0.1])
    unit = found * torch.tensor(NORMALIZATION.std).view(3, 1, 1)
    unit += torch.tensor(NORMALIZATION.mean).view(3, 1, 1)
    assert found.shape == (64, 3, 8, 8)
    assert -1e-4 <= float(unit.min()) <= float(unit.max()) <= 1 + 1e-4
    assert not torch.allclose(found, augmented())


def test_autocast_does_not_touch_the_images() -> None:
    changes = {"crop": 2, "flip": True, "rotation": 15.0}
    augment = Augment(PLAIN.but(changes), (8, 8), NORMALIZATION)
    with torch.autocast("cpu", torch.bfloat16), seeded(CPU, 0, "test"):
        found = augment(images())
    assert torch.equal(found, augmented(**changes))


def test_places_have_seeds_of_their_own_and_leave_the_callers_draws_alone() -> None:
    places = [(0, "step", 1), (0, "step", 11), (1, "step", 1), (0, "order", 1), (0, "step", 1, 0)]
    assert len({derive_seed(*place) for place in places}) == len(places)
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    first = torch.rand(1)
    with seeded(CPU, 0, "step", 5):
        torch.rand(7)
    assert torch.equal(torch.cat([first, torch.rand(1)]), expected)


def test_turned_images_are_images_to_mix() -> None:
    """Interpolation leaves white a bit above 1, which stopped a training with PixMix."""
    seen: list[Tensor] = []

    def mix(x: Tensor) -> Tensor:
        seen.append(x)
        return x

    augment = Augment(PLAIN.but({"rotation": 15.0}), (8, 8), NORMALIZATION, mix)
    with seeded(CPU, 0, "test"):
        augment(torch.full((64, 3, 8, 8), 255, dtype=torch.uint8))
    assert seen[0].min() >= 0
    assert seen[0].max() == 1
