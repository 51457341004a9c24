from __future__ import annotations

import os
from functools import cache
from pathlib import Path

import pytest
import torch

from offmap.data import ImageSet, channel_statistics, load

pytestmark = [
    pytest.mark.real,
    pytest.mark.usefixtures("as_users_run_it"),  # the type checks cost ten times the decoding
    pytest.mark.skipif("OFFMAP_DATA" not in os.environ, reason="OFFMAP_DATA is not set"),
]


@cache
def real(spec: str, **options: int) -> ImageSet:
    name = spec.partition(":")[0]
    if not Path(os.environ["OFFMAP_DATA"], name).is_dir():
        pytest.skip(f"{name} is not under OFFMAP_DATA")
    data = load(spec, **options)  # type: ignore[arg-type]
    assert isinstance(data, ImageSet)
    assert data.skipped == ()
    return data


def channel_moments(data: ImageSet) -> tuple[torch.Tensor, torch.Tensor]:
    levels = torch.arange(256).double() / 255
    counts = [x.flatten().bincount(minlength=256).double() for x in data.images.unbind(1)]
    shares = torch.stack(counts) / counts[0].sum()
    mean = shares @ levels
    return mean, (shares @ levels.square() - mean.square()).sqrt()


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("cifar10", [0.49139968, 0.48215841, 0.44653091]),
        ("cifar100", [0.50707516, 0.48654887, 0.44091784]),
        ("mnist", [0.13066048]),
    ],
)
def test_training_images_have_the_published_means(name: str, published: list[float]) -> None:
    mean, std = channel_moments(real(f"{name}:train"))
    assert mean.tolist() == pytest.approx(published, abs=1e-7)
    usual_mean, usual_std = channel_statistics(name)
    assert mean.tolist() == pytest.approx(usual_mean, abs=2e-4)
    assert std.tolist() == pytest.approx(usual_std, abs=2e-3)


@pytest.mark.parametrize(
    ("name", "train", "test", "classes", "shape"),
    [
        ("cifar10", 50_000, 10_000, 10, (3, 32, 32)),
        ("cifar100", 50_000, 10_000, 100, (3, 32, 32)),
        ("mnist", 60_000, 10_000, 10, (1, 28, 28)),
    ],
)
def test_counts(
    name: str, train: int, test: int, classes: int, shape: tuple[int, int, int]
) -> None:
    data = real(name)
    assert data.name == f"{name}:test"
    assert data.shape == shape
    assert len(data) == test
    assert len(data.classes) == classes
    assert data.labels is not None
    assert len(data.labels.unique()) == classes
    assert len(real(f"{name}:train")) == train


def test_a_stream_of_real_images_equals_memory() -> None:
    held = real("cifar10", limit=3000)
    stream = load("cifar10", limit=3000, keep_in_memory_bytes=0)
    read = torch.cat([images for images, _ in stream.batches(700)])
    assert ImageSet("read", read).fingerprint == held.fingerprint


def test_grey_digits_as_colour_in_another_size() -> None:
    data = real("mnist", size=32, channels=3, limit=50)
    assert data.shape == (3, 32, 32)
    assert torch.equal(data.images[:, 0], data.images[:, 2])
    assert real("tiny_imagenet", limit=5).name.startswith("tiny_imagenet:val")
