"""Samples of one set that stand in another."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given
from torch import Tensor

from offmap.data import ImageSet, load, overlap
from offmap.errors import DataError, ShapeError

Make = Callable[..., Any]


def images_of(numbers: list[int]) -> ImageSet:
    """One image for each number, the same for the same number."""
    pixels = torch.tensor(numbers, dtype=torch.uint8).reshape(-1, 1, 1, 1)
    return ImageSet("set", pixels.expand(-1, 1, 3, 2).clone())


numbers = st.lists(st.integers(0, 40), min_size=1, max_size=30)


@given(a=numbers, b=numbers)
def test_the_count_is_that_of_comparing_all_with_all(a: list[int], b: list[int]) -> None:
    expected = sum(number in a for number in b)
    assert overlap(images_of(a), images_of(b)) == expected


def test_an_empty_batch_has_no_samples_in_common() -> None:
    # Of a loader that filters what it reads.
    images = images_of([1, 2, 3]).images
    assert overlap([images, images[:0]], [images[:0], images[:2]]) == 2


def test_order_and_batches_do_not_matter() -> None:
    a = images_of(list(range(40)))
    other = a.subset(torch.randperm(40, generator=torch.Generator().manual_seed(0)))
    assert overlap(a, other) == 40
    assert overlap(a.batches(7), [images for images, _ in other.batches(11)]) == 40
    assert overlap(a, images_of([41, 42])) == 0
    assert overlap([], a) == overlap(a, []) == 0


def test_folders_files_and_arrays_are_compared_by_their_pixels(
    tmp_path: Path, write_folder: Make, write_parquet: Make, encode: Make, pixels: Make
) -> None:
    images = pixels(12, 6, 6, 3)
    np.save(tmp_path / "set.npy", images)
    array = load(tmp_path / "set.npy")
    files = {f"{i}.webp": encode(images[i], "WEBP", lossless=True) for i in (7, 2, 5)}
    folder = load(write_folder(files | {"new.png": encode(pixels(6, 6, 3, seed=1))}))
    assert overlap(array, folder) == 3
    assert overlap(folder, array) == 3
    stream = load(write_parquet([encode(i) for i in images[3:]]), keep_in_memory_bytes=0)
    assert overlap(array, stream) == 9
    small = load(tmp_path / "set.npy", size=3)
    with pytest.raises(ShapeError, match=r"\(3, 6, 6\) and of \(3, 3, 3\)"):
        overlap(array, small)


def test_what_differs_in_one_value_type_or_shape_is_another_sample() -> None:
    a = images_of([1, 2, 3])
    changed = a.images.clone()
    changed[1, 0, 2, 1] += 1
    assert overlap(a, [changed]) == 2
    assert overlap(a, [a.images.float()]) == 0
    assert overlap(a, [a.images.reshape(3, 1, 2, 3)]) == 0


def test_batches_of_every_kind() -> None:
    x: Tensor = torch.arange(12.0).reshape(4, 3)
    assert overlap([x], [(x[1:], torch.zeros(3))]) == 3
    assert overlap([{"image": x, "label": torch.zeros(4)}], [x[:2]]) == 2
    text = {"input_ids": torch.arange(8).reshape(4, 2), "attention_mask": torch.ones(4, 2)}
    masked = text | {"attention_mask": torch.tensor([[1.0, 1.0], [1.0, 0.0]]).repeat(2, 1)}
    assert overlap([text], [text | {"labels": torch.arange(4)}]) == 4
    assert overlap([text], [masked]) == 2
    assert overlap([x.bfloat16()], [x.bfloat16()]) == 4
    with pytest.raises(DataError, match="a dict with the keys 'label'"):
        overlap([{"label": torch.zeros(4)}], [x])
