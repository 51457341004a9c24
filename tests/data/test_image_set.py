from __future__ import annotations

from collections.abc import Callable
from typing import Any

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given

from offmap.data import ImageSet, corrupted, join, load, noise
from offmap.errors import ArgumentError, DataError, LabelError, LeftOutWarning, UnknownNameError

Make = Callable[..., Any]


def numbered(n: int, classes: int = 3, *, name: str = "set") -> ImageSet:
    """Image ``i`` holds the number ``i``: samples can be told apart after any selection."""
    images = torch.arange(n, dtype=torch.uint8).reshape(n, 1, 1, 1).expand(n, 3, 2, 2).clone()
    labels = torch.arange(n) % classes
    return ImageSet(name, images, labels, tuple("abcdefgh"[:classes]))


def numbers(data: ImageSet) -> list[int]:
    return data.images[:, 0, 0, 0].tolist()


sizes, seeds = st.integers(2, 60), st.integers(0, 5)


@given(total=sizes, n=st.integers(1, 70), seed=seeds)
def test_take_keeps_order_and_labels_and_agrees_with_itself(total: int, n: int, seed: int) -> None:
    data = numbered(total)
    taken = data.take(n, seed)
    chosen = numbers(taken)
    assert len(taken) == min(n, total)
    assert chosen == sorted(set(chosen))
    assert taken.labels is not None
    assert taken.labels.tolist() == [i % 3 for i in chosen]
    assert chosen == numbers(data.take(n, seed))
    assert set(numbers(data.take(max(n - 1, 1), seed))) <= set(chosen)


@given(total=sizes, share=st.floats(0.01, 0.99), seed=seeds)
def test_split_is_disjoint_and_complete(total: int, share: float, seed: int) -> None:
    data = numbered(total)
    if not 0 < round(share * total) < total:
        with pytest.raises(ArgumentError, match="one side empty"):
            data.split(share, seed)
        return
    first, second = data.split(share, seed)
    assert len(first) == round(share * total)
    assert sorted(numbers(first) + numbers(second)) == list(range(total))
    assert all(numbers(part) == sorted(numbers(part)) for part in (first, second))


def test_seeds_choose_differently() -> None:
    data = numbered(60)
    assert len({tuple(numbers(data.take(10, seed))) for seed in range(5)}) == 5


@given(total=sizes, batch_size=st.integers(1, 70), start=st.integers(0, 70))
def test_batches_are_slices_in_order_from_start(total: int, batch_size: int, start: int) -> None:
    data = numbered(total)
    batches = list(data.batches(batch_size, start))
    assert [len(images) for images, _ in batches[:-1]] == [batch_size] * (len(batches) - 1)
    read = [i for images, _ in batches for i in images[:, 0, 0, 0].tolist()]
    assert read == list(range(start, total))
    assert [i for _, labels in batches for i in labels] == [i % 3 for i in read]  # type: ignore[union-attr]


def test_batches_do_not_copy() -> None:
    data = numbered(5)
    second = list(data.batches(2))[1][0]
    assert second.data_ptr() == data.images[2].data_ptr()


def test_only_relabels_in_the_order_given() -> None:
    chosen = numbered(9, classes=3).only(["c", "a"])
    assert numbers(chosen) == [0, 2, 3, 5, 6, 8]
    assert chosen.labels is not None
    assert chosen.labels.tolist() == [1, 0, 1, 0, 1, 0]
    assert chosen.classes == ("c", "a")
    by_label = numbered(9, classes=3).only([2, 0])
    assert by_label.fingerprint == chosen.fingerprint
    assert torch.equal(by_label.labels, chosen.labels)  # type: ignore[arg-type]


def test_names_say_what_was_done() -> None:
    data = numbered(10, name="cifar10:test")
    first, second = data.split(0.3, seed=7)
    assert data.take(4).name == "cifar10:test[4 of 10, seed 0]"
    assert data.take(10) is data
    assert first.name == "cifar10:test[3 of 10, seed 7]"
    assert second.name == "cifar10:test[other 7 of 10, seed 7]"
    assert data.subset([1, 0]).name == "cifar10:test[2 chosen of 10]"
    assert data.only(["a", "b"]).name == "cifar10:test[only a, b]"
    many = numbered(20, classes=8).only("abcdef")
    assert many.name == "set[only a, b, c, d and 2 more]"


def test_subset_takes_positions_in_the_order_given_or_a_mask() -> None:
    data = numbered(5)
    assert numbers(data.subset([3, 1])) == [3, 1]
    assert numbers(data.subset(torch.tensor([False, True, False, True, False]))) == [1, 3]
    assert numbers(data.subset(torch.tensor([4]).numpy())) == [4]


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize("indices", [[], [5], [-1], [0.5], [True, False], [[0]]])
def test_subset_refuses_what_is_no_position(indices: list[object]) -> None:
    with pytest.raises(ArgumentError, match="positions"):
        numbered(5).subset(indices)  # type: ignore[arg-type]


def test_fingerprint_changes_with_content_only() -> None:
    data = numbered(6)
    assert data.fingerprint == ImageSet("other", data.images.clone()).fingerprint
    # The same values laid out otherwise in memory.
    last = data.images.to(memory_format=torch.channels_last)
    assert data.fingerprint == ImageSet("last", last).fingerprint
    other = data.images.clone()
    other[3, 1, 1, 1] += 1
    prints = {
        data.fingerprint,
        ImageSet("pixel", other).fingerprint,
        ImageSet("shape", data.images.reshape(6, 3, 1, 4)).fingerprint,
        ImageSet("type", data.images.float()).fingerprint,
        ImageSet("order", data.images.flip(0)).fingerprint,
    }
    assert len(prints) == 5
    assert all(len(p) == 64 for p in prints)


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize(
    "images",
    [
        torch.zeros(2, 3, 4, dtype=torch.uint8),
        torch.zeros(2, 3, 4, 4).double(),
        torch.empty(0, 1, 2, 2),
    ],
)
def test_images_of_another_kind_are_refused(images: torch.Tensor) -> None:
    with pytest.raises(DataError, match=r"must hold images \(n, c, h, w\)"):
        ImageSet("set", images)


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize("labels", [[0, 1, 2], [0, -1], [0, 5], [0.0, 1.0]])
def test_labels_that_do_not_fit_are_refused(labels: list[float]) -> None:
    with pytest.raises(LabelError, match="set has labels"):
        ImageSet("set", torch.zeros(2, 1, 2, 2), torch.tensor(labels), ("a", "b"))


def test_errors_of_choosing_say_what_is_there() -> None:
    data = numbered(6)
    with pytest.raises(UnknownNameError, match="no class 'z': its classes are a, b, c"):
        data.only(["z"])
    with pytest.raises(UnknownNameError, match="no class 3"):
        data.only([3])
    with pytest.raises(ArgumentError, match="named twice"):
        data.only(["a", 0])
    with pytest.raises(LabelError, match="is empty"):
        data.subset([0]).only(["b"])
    with pytest.raises(LabelError, match="no labels"):
        ImageSet("set", data.images).only(["a"])
    with pytest.raises(ArgumentError, match="at least 1"):
        data.take(0)


@pytest.mark.usefixtures("as_users_run_it")
def test_arguments_of_another_type_are_refused_in_words() -> None:
    data = numbered(5)
    with pytest.raises(ArgumentError, match=r"must be a whole number of at least 1; seen 2\.5"):
        data.take(2.5)  # type: ignore[arg-type]
    for share in ("0.5", float("nan")):
        with pytest.raises(ArgumentError, match="share must be a number"):
            data.split(share)  # type: ignore[arg-type]
    with pytest.raises(LabelError, match="labels in a list: give a tensor"):
        ImageSet("set", data.images, [0, 1, 2, 0, 1])  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match=r"whole numbers, of \(c, h, w\); seen 2\.5"):
        noise("gaussian", 2.5, (3, 4, 4))  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="is one of 1 to 5; seen '3'"):
        corrupted("contrast", data, severity="3")  # type: ignore[arg-type]


@pytest.mark.parametrize(("batch_size", "start"), [(0, 0), (2, -1)])
def test_reading_refuses_arguments_out_of_range(batch_size: int, start: int) -> None:
    with pytest.raises(ArgumentError, match=r"(batch_size|start) must be a whole number"):
        numbered(5).batches(batch_size, start)


def test_float_images_are_kept_as_they_are() -> None:
    data = ImageSet("noise", torch.randn(3, 1, 4, 4, generator=torch.Generator().manual_seed(0)))
    assert data.shape == (1, 4, 4)
    assert data.take(2).images.dtype == torch.float32


def test_labels_count_in_the_classes_of_another_set() -> None:
    few = ImageSet(
        "few", torch.zeros(3, 1, 2, 2, dtype=torch.uint8), torch.tensor([0, 1, 0]), ("b", "d")
    )
    found = few.with_classes(("a", "b", "c", "d"))
    assert found.labels.tolist() == [1, 3, 1]
    assert found.classes == ("a", "b", "c", "d")
    with pytest.raises(LabelError, match="not among a, b: d"):
        few.with_classes(("a", "b"))


def test_a_set_shows_itself_in_one_line(write_folder: Make, encode: Make, pixels: Make) -> None:
    labelled = ImageSet(
        "digits", torch.zeros(1200, 1, 8, 8).byte(), torch.arange(1200) % 6, tuple("abcdef")
    )
    assert repr(labelled) == (
        "ImageSet('digits', 1,200 samples of 1x8x8, 6 classes (a, b, c, d and 2 more))"
    )
    assert repr(ImageSet("x", torch.zeros(2, 3, 4, 5))) == (
        "ImageSet('x', 2 samples of 3x4x5, no labels)"
    )
    numbered = ImageSet("x", torch.zeros(2, 3, 4, 5), torch.tensor([1, 7]))
    assert repr(numbered) == "ImageSet('x', 2 samples of 3x4x5, labels 1 to 7)"
    root = write_folder({"cat/1.png": encode(pixels(4, 4)), "cat/2.png": b"", "cat/notes.txt": b""})
    with pytest.warns(LeftOutWarning):
        held = load(root)
    assert repr(held) == (
        f"ImageSet('{root}', 1 samples of 1x4x4, 1 classes (cat), 1 unreadable, 1 left out)"
    )
    with pytest.warns(LeftOutWarning):
        stream = load(root, keep_in_memory_bytes=0)
    assert repr(stream) == (
        f"StreamedSet('{root}', 2 samples of 1x4x4, 1 classes (cat), 1 left out)"
    )
    with pytest.warns(LeftOutWarning, match="x has none"):
        two = join([labelled, ImageSet("x", torch.zeros(3, 1, 8, 8).byte())])
    assert repr(two) == "JoinedSet('digits + x', 1,203 samples of 1x8x8, no labels)"
