"""ID images made worse, against slow twins written from the definitions."""

from __future__ import annotations

import colorsys
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import offmap
from offmap.data import CORRUPTIONS, ImageSet, corrupted, load_like
from offmap.errors import ArgumentError, DataError, UnknownNameError


def pictures(channels: int = 3, n: int = 4) -> ImageSet:
    generator = torch.Generator().manual_seed(1)
    shape = (n, channels, 9, 12)
    images = torch.randint(256, shape, generator=generator, dtype=torch.uint8)
    images[0] = 0
    return ImageSet("pictures", images, torch.arange(n), ("a", "b", "c", "d"))


@pytest.mark.parametrize("kind", CORRUPTIONS)
@pytest.mark.parametrize("channels", [1, 3])
def test_labels_keys_and_shape_stay_and_a_seed_gives_the_same_bits(
    kind: str, channels: int
) -> None:
    like = pictures(channels)
    first, again = (corrupted(kind, like, severity=5, seed=3) for _ in range(2))
    assert first.fingerprint == again.fingerprint != like.fingerprint
    assert torch.equal(first.labels, like.labels)
    assert first.classes == like.classes
    assert first.keys(0, 4) == like.keys(0, 4)
    assert first.images.dtype == torch.uint8
    assert first.name == f"pictures, {kind} 5"
    assert f"{kind} of severity 5" in first.transform


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_a_higher_severity_is_farther_from_the_images(kind: str) -> None:
    smooth = torch.linspace(20, 200, 32).round().to(torch.uint8)
    stripes = (torch.arange(32) % 5 * 8)[:, None].to(torch.uint8)
    like = ImageSet("smooth", smooth.expand(1, 3, 32, 32) + stripes)
    far = [
        (corrupted(kind, like, severity=s).images.double() - like.images.double()).square().mean()
        for s in range(1, 6)
    ]
    assert 0 < far[0] < far[-1]
    if kind not in ("jpeg_compression", "pixelate"):  # blocks may fit the stripes
        assert far == sorted(far)


def test_brightness_raises_the_value_of_hsv_and_keeps_hue_and_saturation() -> None:
    like = pictures()
    bright = corrupted("brightness", like, severity=4)
    for image, found in zip(like.images, bright.images, strict=True):
        for y, x in np.ndindex(9, 12):
            h, s, v = colorsys.rgb_to_hsv(*(float(c) / 255 for c in image[:, y, x]))
            expected = colorsys.hsv_to_rgb(h, s, min(v + 0.2, 1))
            exact = 255 * np.array(expected)
            assert np.abs(found[:, y, x].numpy() - exact).max() <= 0.5 + 1e-9


def test_contrast_pulls_each_channel_towards_its_mean() -> None:
    like = pictures()
    x = like.images.numpy().astype(np.float64)
    mean = x.mean((2, 3), keepdims=True)
    expected = np.clip((x - mean) * 0.4 + mean, 0, 255).round()
    assert np.array_equal(corrupted("contrast", like, severity=3).images.numpy(), expected)


def test_blur_is_a_gaussian_over_height_and_width_alone() -> None:
    point = torch.zeros(1, 3, 11, 11, dtype=torch.uint8)
    point[0, 1, 5, 5] = 255
    found = corrupted("gaussian_blur", ImageSet("point", point), severity=5).images.double()
    assert found[0, 0].max() == 0
    steps = torch.exp(-(torch.arange(-5, 6).double() ** 2) / 2)
    kernel = torch.outer(steps, steps) / steps.sum() ** 2
    assert (found[0, 1] - 255 * kernel).abs().max() <= 0.51  # rounded; the kernel is cut at 4


def test_noise_has_the_deviation_of_its_severity() -> None:
    grey = ImageSet("grey", torch.full((20, 3, 32, 32), 128, dtype=torch.uint8))
    noise = corrupted("gaussian_noise", grey, severity=5).images.double() - 128
    assert noise.std().item() == pytest.approx(25.5, rel=0.02)
    assert noise.mean().item() == pytest.approx(0, abs=0.5)


def test_pixelate_and_jpeg_are_what_pillow_does_with_the_picture() -> None:
    like = pictures()
    picture = Image.fromarray(like.images[1].permute(1, 2, 0).numpy())
    small = picture.resize((int(12 * 0.65), int(9 * 0.65)), Image.Resampling.BOX)
    expected = np.asarray(small.resize((12, 9), Image.Resampling.BOX))
    found = corrupted("pixelate", like, severity=5).images[1].permute(1, 2, 0).numpy()
    assert np.array_equal(found, expected)
    with BytesIO() as file:
        picture.save(file, "JPEG", quality=40)
        expected = np.asarray(Image.open(file))
    found = corrupted("jpeg_compression", like, severity=5).images[1].permute(1, 2, 0).numpy()
    assert np.array_equal(found, expected)


def test_by_name_of_a_held_and_of_a_streamed_set(tmp_path: Path) -> None:
    for i, image in enumerate(pictures().images):
        (tmp_path / "abcd"[i]).mkdir()
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(tmp_path / "abcd"[i] / "x.png")
    held = offmap.data.load(tmp_path)
    streamed = offmap.data.load(tmp_path, keep_in_memory_bytes=0)
    found = load_like("corrupt:contrast:2", held)
    assert found.fingerprint == corrupted("contrast", held, severity=2).fingerprint
    assert found.fingerprint == load_like("corrupt:contrast:2", streamed).fingerprint
    assert len(load_like("corrupt:contrast", held, limit=2)) == 2


def test_what_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="did you mean"):
        corrupted("contrats", pictures())
    with pytest.raises(ArgumentError, match="1 to 5"):
        corrupted("contrast", pictures(), severity=6)
    with pytest.raises(ArgumentError, match="corrupt:contrast:3"):
        load_like("corrupt:contrast:strong", pictures())
    with pytest.raises(DataError, match="normalised"):
        corrupted("contrast", ImageSet("floats", torch.zeros(2, 3, 4, 4)))
