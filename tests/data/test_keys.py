"""A key per sample: unique, the same in every subset and whatever the batch size."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings

from offmap.data import ImageSet, StreamedSet, embedded, load, noise
from offmap.errors import ArgumentError, DataError

Make = Callable[..., Any]
Set = ImageSet | StreamedSet
SIZE = 23  # images in the folder, one in four of them broken
pytestmark = pytest.mark.filterwarnings("ignore::offmap.errors.LeftOutWarning")


@pytest.fixture
def folder(write_folder: Make, encode: Make, pixels: Make) -> Path:
    images = [encode(pixels(4, 4, 3, seed=i)) for i in range(SIZE)]
    files = {f"{'abc'[i % 3]}/deep {i % 2}/{i}.png": image for i, image in enumerate(images)}
    broken = {name: b"" if i % 4 == 1 else image for i, (name, image) in enumerate(files.items())}
    return write_folder(broken)


def keyed(data: Set, batch_size: int, start: int = 0) -> dict[str, bytes]:
    """The pixels of each sample by its key."""
    pixels: dict[str, bytes] = {}
    for images, labels, keys in data.keyed_batches(batch_size, start):
        assert len(images) == len(keys)
        assert labels is None or len(labels) == len(keys)
        for key, image in zip(keys, images, strict=True):
            assert key not in pixels
            pixels[key] = image.numpy().tobytes()
    return pixels


def pixels_of(data: Set) -> list[bytes]:
    return [image.numpy().tobytes() for images, _ in data.batches(5) for image in images]


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=15, deadline=None
)
@given(batch_size=st.integers(1, 30), seed=st.integers(0, 3), share=st.floats(0.2, 0.8))
def test_keys_name_the_samples_whatever_batch_subset_or_memory(
    folder: Path, batch_size: int, seed: int, share: float
) -> None:
    memory = load(folder)
    stream = load(folder, keep_in_memory_bytes=0)
    expected = keyed(memory, 7)
    assert list(expected.values()) == pixels_of(memory)
    for data in (memory, stream):
        first, second = data.split(share, seed)
        few = data.only(["c", "a"])
        taken = data.take(6, seed)
        again = taken.subset(torch.arange(len(taken)).flip(0)[:3])
        assert keyed(data, batch_size) == expected
        assert keyed(first, batch_size) | keyed(second, batch_size) == expected
        assert not keyed(first, batch_size).keys() & keyed(second, batch_size).keys()
        for part in (first, second, few, taken, again):
            assert keyed(part, batch_size).items() <= expected.items()
            assert list(keyed(part, batch_size).values()) == pixels_of(part)
    limited = load(folder, limit=9, seed=seed, keep_in_memory_bytes=0)
    assert limited.keys(0, 9) == stream.take(9, seed).keys(0, 9)
    assert keyed(limited, batch_size) == keyed(stream.take(9, seed), 4)
    held = load(folder, limit=9, seed=seed)
    assert keyed(held, batch_size) == keyed(limited, 4)


def test_the_key_of_a_file_is_its_path_below_the_folder(folder: Path) -> None:
    stream = load(folder, keep_in_memory_bytes=0)
    keys = stream.keys(0, SIZE)
    assert keys == tuple(
        path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*.png"))
    )
    good = keyed(stream, 4)
    assert [key for key in keys if key in good] == list(good)
    assert {str(folder / key) for key in keys if key not in good} == {
        skipped.path for skipped in stream.skipped
    }
    assert load(folder).keys(0, SIZE) == tuple(good)


def test_the_key_of_a_row_is_its_number(
    tmp_path: Path, write_parquet: Make, encode: Make, pixels: Make
) -> None:
    images = [encode(pixels(4, 4, seed=i)) for i in range(6)]
    images[2] = b"broken"
    path = write_parquet(images)
    assert load(path).keys(0, 9) == ("0", "1", "3", "4", "5")
    np.save(tmp_path / "set.npy", pixels(30, 4, 4))
    few = load(tmp_path / "set.npy", limit=8)
    rows = few.keys(0, 8)
    whole = load(tmp_path / "set.npy")
    assert isinstance(few, ImageSet)
    assert isinstance(whole, ImageSet)
    assert torch.equal(few.images, whole.images[list(map(int, rows))])
    assert embedded("faces", limit=8).keys(0, 100) == embedded("faces").take(8).keys(0, 100)
    assert noise("blobs", 3, (1, 8, 8)).keys(1, 3) == ("1", "2")


def test_keys_of_a_range_are_those_of_its_positions(folder: Path) -> None:
    for data in (load(folder), load(folder, keep_in_memory_bytes=0)):
        every = data.keys(0, len(data))
        assert len(set(every)) == len(every) == len(data)
        assert data.keys(3, 5) == every[3:5]
        assert data.keys(4, 4) == ()
        assert data.keys(len(data) - 1, len(data) + 9) == every[-1:]
        for start, stop in ((-1, 2), (3, 2)):
            with pytest.raises(ArgumentError, match="keys are those from start up to stop"):
                data.keys(start, stop)
        with pytest.raises(ArgumentError, match="batch_size must be a whole number of at least 1"):
            data.keyed_batches(0)


def test_keys_of_another_number_than_the_images_are_refused() -> None:
    images = torch.zeros(3, 1, 2, 2, dtype=torch.uint8)
    with pytest.raises(DataError, match="set has 2 keys for 3 images"):
        ImageSet("set", images, sample_keys=("a", "b"))
    named = ImageSet("set", images, sample_keys=("a", "b", "c"))
    assert named.subset([2, 0]).keys(0, 2) == ("c", "a")


def test_corrupt_images_that_were_met_stay_known_with_other_classes(folder: Path) -> None:
    stream = load(folder, keep_in_memory_bytes=0)
    list(stream.batches(8))
    assert stream.with_classes(("a", "b", "c", "d")).skipped == stream.skipped != ()
