"""A guard over the digits, in a folder and at hand, and pictures in files."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

import offmap
from offmap import demo


@pytest.fixture(scope="package")
def sets() -> demo.Digits:
    return demo.digits_data()


@pytest.fixture(scope="package")
def guard(sets: demo.Digits) -> offmap.Guard:
    guard = offmap.Guard(demo.shipped(), "mahalanobis", normalization=demo.NORMALIZATION)
    guard.fit(sets.train).calibrate(sets.calibration)
    guard.model = "digits_cnn"
    return guard


@pytest.fixture(scope="package")
def folder(guard: offmap.Guard, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the guard, with its network."""
    folder = tmp_path_factory.mktemp("guards") / "guard"
    guard.save(folder, weights=True)
    return folder


@pytest.fixture(scope="package")
def photos(sets: demo.Digits, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fifty digits and a broken file, the sixteenth."""
    folder = tmp_path_factory.mktemp("photos")
    for i in range(50):
        Image.fromarray(sets.test.images[i, 0].numpy()).save(folder / f"{i:02}.png")
    (folder / "15b.png").write_bytes(b"no picture")
    return folder
