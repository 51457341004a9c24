"""A user's own function from a picture to what the network is given."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import offmap
from offmap import demo
from offmap.data import ImageSet, OwnTransform, load, load_like
from offmap.errors import ArgumentError, DataError, UnknownNameError
from offmap.guard.files import score_files

Make = Callable[..., Any]
PREP = """
import itertools, numpy as np, torch
def turned(image):
    return np.asarray(image.convert("L").resize((8, 8)))[::-1]
def floats(image):
    return torch.from_numpy(turned(image).copy()).double()[None] / 255 - 0.5
def fails_at_times(image):
    if next(calls) % 2:
        raise ValueError("no luck")
    return turned(image)
calls, draws = itertools.count(), itertools.count(2)
def random(image):
    return turned(image) // next(draws)  # never twice the same, as by chance two draws may be
"""


@pytest.fixture
def prep(tmp_path: Path) -> Path:
    path = tmp_path / "prep.py"
    path.write_text(PREP)
    return path


@pytest.fixture
def photos(write_folder: Make, encode: Make, pixels: Make) -> Path:
    return write_folder({f"{i:02}.png": encode(pixels(8, 8, seed=i)) for i in range(40)})


@pytest.mark.parametrize("memory", [0, 1 << 20])
def test_images_are_what_the_function_makes_of_them(
    photos: Path, prep: Path, pixels: Make, memory: int
) -> None:
    data = load(photos, transform=f"{prep}:turned", keep_in_memory_bytes=memory)
    expected = torch.stack(
        [torch.from_numpy(pixels(8, 8, seed=i)[::-1].copy())[None] for i in range(40)]
    )
    images = torch.cat([x for x, _ in data.batches(7)])
    assert data.shape == (1, 8, 8)
    assert torch.equal(images, expected)
    floats = load(photos, transform=f"{prep}:floats", keep_in_memory_bytes=memory)
    images = torch.cat([x for x, _ in floats.batches(7)])
    assert images.dtype == torch.float32
    assert torch.equal(images, (expected.double() / 255 - 0.5).float())
    assert data.transform != floats.transform
    assert data.transform.startswith(f"{prep}:turned, sha256 ")
    assert torch.equal(next(load_like(photos, data, limit=40).batches(40))[0], expected)


def test_the_name_of_what_it_is_tells_of_a_change(photos: Path, prep: Path) -> None:
    before = load(photos, transform=f"{prep}:turned").transform
    prep.write_text(PREP.replace("[::-1]", "[:, ::-1]"))
    assert load(photos, transform=f"{prep}:turned").transform != before
    given = OwnTransform.of(np.asarray)
    assert load(photos, transform=np.asarray).transform == str(given)


def test_a_function_that_does_not_do_is_refused(photos: Path, prep: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ArgumentError, match=r"gives two results for one image, .*00\.png: take out"
    ):
        load(photos, transform=f"{prep}:random")
    with pytest.raises(ArgumentError, match="turned decides on size and channels: leave them out"):
        load(photos, transform=f"{prep}:turned", size=8)
    with pytest.raises(UnknownNameError, match="there is no 'nothing' in"):
        load(photos, transform=f"{prep}:nothing")
    with pytest.raises(UnknownNameError, match=r"turned: give package\.module:name"):
        load(photos, transform="turned")
    # The shape was blamed.
    message = r"none of the 40 images .* gave int64: give uint8, or normalised floats"
    with pytest.raises(DataError, match=message):
        load(photos, transform=lambda image: np.asarray(image).astype(np.int64))
    (tmp_path / "other").mkdir()
    Image.new("L", (9, 9)).save(tmp_path / "other" / "1.png")
    with pytest.raises(DataError, match=r"makes images of \(1, 8, 8\) of .*, and of \(1, 9, 9\)"):
        load_like(tmp_path / "other", load(photos, transform=np.asarray))


def test_a_function_that_fails_on_every_second_look_is_told(photos: Path, prep: Path) -> None:
    """Each image is looked at twice: where the second look failed, nothing was left to name."""
    with pytest.raises(DataError, match=r"none of the 40 images .*00\.png: ValueError: no luck"):
        load(photos, transform=f"{prep}:fails_at_times")


def test_a_guard_asks_for_the_function_that_it_was_fitted_with(
    photos: Path, prep: Path, tmp_path: Path
) -> None:
    images = load(photos, transform=f"{prep}:turned")
    assert isinstance(images, ImageSet)
    first, second = images.split(0.5)
    guard = offmap.Guard(demo.shipped(), "entropy", normalization=demo.NORMALIZATION)
    guard.fit(first, show_progress=False).calibrate(second, show_progress=False)
    guard.save(tmp_path / "guard")
    loaded = offmap.load(tmp_path / "guard", demo.shipped())
    out = tmp_path / "v.jsonl"
    summary = score_files(loaded, [str(photos)], out, transform=f"{prep}:turned")
    assert summary.images == 40
    scores = [
        float(line.split('"score": ')[1].split(",")[0]) for line in out.read_text().splitlines()
    ]
    assert scores == pytest.approx(guard(images.images).scores.tolist(), rel=1e-5)
    with pytest.raises(
        ArgumentError,
        match="made by the transform turned: give it by transform=",
    ):
        score_files(loaded, [str(photos)], out)
    with pytest.raises(ArgumentError, match=r"transform turned \(sha256 .*:floats, .* is another"):
        score_files(loaded, [str(photos)], out, transform=f"{prep}:floats")
    with pytest.raises(ArgumentError, match="made by the transform turned: give it"):
        loaded.calibrate(load(photos))
    moved = tmp_path / "moved.py"
    moved.write_text(PREP)  # the same function in another place
    score_files(loaded, [str(photos)], out, transform=f"{moved}:turned")
    prep.write_text(PREP + "#")
    with pytest.raises(ArgumentError, match="is another, or has been changed: fit the guard anew"):
        score_files(loaded, [str(photos)], out, transform=f"{prep}:turned")
    plain = offmap.Guard(demo.shipped(), "entropy", normalization=demo.NORMALIZATION)
    plain.fit(load(photos), show_progress=False)
    with pytest.raises(ArgumentError, match=r"was fitted without the transform .*: leave it out"):
        plain.calibrate(images)


def test_a_guard_says_so_where_the_function_is_missing(photos: Path, prep: Path) -> None:
    data = load(photos, transform=f"{prep}:turned")
    assert isinstance(data, ImageSet)
    first, second = data.split(0.5)
    guard = offmap.Guard(demo.shipped(), "energy", normalization=demo.NORMALIZATION)
    guard.fit(first).calibrate(second)
    plain = load(photos, size=8, channels=1)
    picture = Image.new("L", (8, 8))
    for call in (guard, guard.check, guard.control):
        for given in (photos, str(photos), plain):
            with pytest.raises(ArgumentError, match="made by the transform turned"):
                call(given)
    with pytest.raises(ArgumentError, match="made by the transform turned"):
        guard([picture])
    assert torch.equal(guard(data).scores, guard(data.images).scores)


def test_an_error_in_the_file_of_a_user_stays_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("len(3)")
    with pytest.raises(TypeError, match="has no len"):
        OwnTransform.of(f"{tmp_path / 'broken.py'}:make")
    with pytest.raises(UnknownNameError, match=r"give package.module:name or file.py:name"):
        OwnTransform.of(".relative:make")
