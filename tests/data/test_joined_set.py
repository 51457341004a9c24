"""Several sets as one: every sample once, under a key of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import offmap
from offmap import demo
from offmap.data import ImageSet, join, load
from offmap.errors import ArgumentError, DataError, LabelError, LeftOutWarning, ShapeError

Make = Callable[..., Any]


@pytest.fixture
def folders(write_folder: Make, encode: Make, pixels: Make, tmp_path: Path) -> list[Path]:
    """Two sets whose files have the same names, the second without one of the classes."""
    files = {
        f"one/{animal}/{i}.png": encode(pixels(4, 4, seed=i))
        for animal in ("ant", "cat", "dog")
        for i in range(2)
    }
    files |= {f"two/cat/{i}.png": encode(pixels(4, 4, seed=9 + i)) for i in range(3)}
    files |= {"two/dog/0.png": encode(pixels(4, 4, seed=20))}
    root = write_folder(files)
    return [root / "one", root / "two"]


@pytest.mark.parametrize("memory", [0, 1 << 20])
def test_a_joined_set_is_its_parts_one_behind_the_other(folders: list[Path], memory: int) -> None:
    parts = [load(folder, keep_in_memory_bytes=memory) for folder in folders]
    whole = join(parts)
    assert len(whole) == 10
    assert whole.name == f"{folders[0]} + {folders[1]}"
    assert (whole.shape, whole.resize) == ((1, 4, 4), "crop")
    assert whole.transform == "size as stored; grey"
    assert whole.classes == ("ant", "cat", "dog")
    expected = torch.cat([x for part in parts for x, _ in part.batches(9)])
    names = [f"{folder}/{key}" for folder, part in zip(folders, parts, strict=True)
             for key in part.keys(0, 9)]  # fmt: skip
    assert len(set(names)) == 10
    for start in (0, 4, 6, 8, 10):
        batches = list(whole.keyed_batches(4, start))
        images = torch.cat([x for x, _, _ in batches] or [expected[:0]])
        assert torch.equal(images, expected[start:])
        labels = [label for _, y, _ in batches if y is not None for label in y.tolist()]
        assert labels == [0, 0, 1, 1, 2, 2, 1, 1, 1, 2][start:]  # the classes of the first
        assert [key for _, _, keys in batches for key in keys] == names[start:]
        assert list(whole.keys(start, start + 3)) == names[start : start + 3]
    assert [len(x) for x, _ in whole.batches(4)] == [4, 2, 4]


def test_a_single_set_stays_what_it_is(folders: list[Path]) -> None:
    one = load(folders[0])
    assert join([one]) is one


def test_without_labels_of_all_there_are_none(folders: list[Path]) -> None:
    one, flat = load(folders[0]), load(folders[1] / "cat")
    with pytest.warns(LeftOutWarning, match="no label of these 2 sets .*/cat has none"):
        whole = join([one, flat])
    assert whole.labels is None
    assert {y is None for _, y in whole.batches(4)} == {True}


def test_what_cannot_be_joined_is_refused(folders: list[Path]) -> None:
    one, two = map(load, folders)
    with pytest.raises(ArgumentError, match="are the same data: each counts once"):
        join([one, two, load(folders[0])])
    renamed = ImageSet("other", one.images)  # type: ignore[union-attr]
    with pytest.raises(ArgumentError, match="one and other are the same data"):
        join([one, renamed])
    with pytest.raises(ShapeError, match=r"holds images of \(1, 3, 3\), and .* of \(1, 4, 4\)"):
        join([one, load(folders[1], size=3)])
    with pytest.raises(LabelError, match="classes that are not among cat, dog: ant"):
        join([two, one])
    with pytest.raises(ArgumentError, match="give at least one"):
        join([])


def test_a_guard_is_calibrated_on_several_sets_and_on_none_that_it_was_fitted_on() -> None:
    sets = demo.digits_data()
    first, second = sets.calibration.split(0.5)
    guard = offmap.Guard(demo.shipped(), "msp", normalization=demo.NORMALIZATION)
    guard.fit(sets.train, show_progress=False)
    scores = guard.calibrate(sets.calibration, show_progress=False).calibration.scores_
    joined = guard.calibrate(join([first, second]), show_progress=False).calibration.scores_
    assert torch.equal(joined.sort(0).values, scores.sort(0).values)
    with pytest.raises(DataError, match="fitted on the same images"):
        guard.calibrate(join([first, sets.train]), show_progress=False)


def test_labels_of_streamed_parts_count_in_the_fingerprint(folders: list[Path]) -> None:
    held, streamed = (
        join([load(folder, keep_in_memory_bytes=memory) for folder in folders])
        for memory in (1 << 20, 0)
    )
    assert held.label_fingerprint == streamed.label_fingerprint
    assert held.label_fingerprint != load(folders[0]).label_fingerprint
