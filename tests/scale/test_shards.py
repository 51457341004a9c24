"""Shards: every sample once, in order, in the batches and under the keys of the whole."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from offmap import data, demo
from offmap.errors import ArgumentError, LeftOutWarning, NonFiniteError
from offmap.forward import Seen, forward, probe_of
from offmap.scale._shards import Shards, corrupt_in, finite


class Plain:
    """Data of no class of this library."""

    def __init__(self, images: torch.Tensor) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def batches(self, batch_size: int, start: int = 0) -> Iterator[Any]:
        for first in range(start, len(self), batch_size):
            yield self.images[first : first + batch_size], None


def read(data: Any, size: int) -> list[Any]:
    probe = probe_of(demo.shipped(), normalization=demo.NORMALIZATION)
    with probe:
        return [
            (acts.keys, acts.features, labels)
            for acts, labels in forward(probe, data, batch_size=size, seen=Seen(hashing=False))
        ]


def in_shards(whole: Any, size: int) -> list[Any]:
    shards = Shards(whole, size)
    there = pickle.loads(pickle.dumps(shards.without_images()))
    assert len(list(shards.to_send())) == len(shards) > 2
    return [
        batch
        for shard in pickle.loads(pickle.dumps(list(shards.to_send())))
        for batch in read(there.open(shard), size)
    ]


@pytest.fixture(params=["held", "streamed", "joined", "half labelled", "plain"])
def whole(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    sets = demo.digits_data()
    labels = sets.train.labels
    assert labels is not None
    for i in range(100):
        path = tmp_path / str(int(labels[i])) / f"{i:03}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(sets.train.images[i, 0].numpy()).save(path)
    streamed = data.load(tmp_path, keep_in_memory_bytes=0)
    half = data.ImageSet("half", sets.ood["far"]["faces"].images[:50])
    with pytest.warns(LeftOutWarning, match="no label of these 2 sets"):
        half_labelled = data.join([sets.test.take(90), half])
    return {
        "held": sets.test,
        "streamed": streamed,
        "joined": data.join([sets.test, sets.calibration]),
        "half labelled": half_labelled,
        "plain": Plain(sets.test.images),
    }[request.param]


def test_every_sample_is_read_once_as_in_the_whole(whole: Any) -> None:
    expected, found = read(whole, 2), in_shards(whole, 2)
    assert [keys for keys, _, _ in found] == [keys for keys, _, _ in expected]
    for (_, x, y), (_, u, v) in zip(found, expected, strict=True):
        assert torch.equal(x, u)
        assert (y is None) == (v is None)
        assert y is None or torch.equal(y, v)


class Named(Plain):
    """Tokens by name."""

    def batches(self, batch_size: int, start: int = 0) -> Iterator[Any]:
        for ids, _ in super().batches(batch_size, start):
            yield {"input_ids": ids, "attention_mask": torch.ones_like(ids)}, None


def test_inputs_by_name_are_cut_by_their_rows() -> None:
    whole = Named(torch.arange(70 * 4).reshape(70, 4))
    shards = Shards(whole, 2)
    found = [batch for each in shards.to_send() for batch, _ in shards.open(each).batches(2)]
    assert torch.equal(torch.cat([batch["input_ids"] for batch in found]), whole.images)
    assert {len(batch["attention_mask"]) for batch in found} == {2}


def test_corrupt_images_are_left_out_and_known(tmp_path: Path) -> None:
    sets = demo.digits_data()
    for i in range(40):
        Image.fromarray(sets.train.images[i, 0].numpy()).save(tmp_path / f"{i:02}.png")
    (tmp_path / "20.png").write_bytes(b"no picture")
    whole = data.load(tmp_path, keep_in_memory_bytes=0)
    shards = Shards(whole, 1)
    parts = [shards.open(shard) for shard in shards.to_send()]
    with pytest.warns(UserWarning, match="1 unreadable"):
        counts = [sum(len(keys) for keys, _, _ in read(part, 1)) for part in parts]
    skipped = [image for part in parts for image in corrupt_in(part)]
    assert counts == [16, 15, 8]
    assert [Path(image.path).name for image in skipped] == ["20.png"]


def test_there_are_no_more_than_so_many_shards_and_they_end_with_batches() -> None:
    class Many(Plain):
        def __len__(self) -> int:
            return 10_000_000_000

    shards = Shards(Many(torch.empty(0)), 256)
    assert len(shards) <= 8192
    sizes = {len(rows) for _, rows in shards.cuts[:-1]}
    assert len(sizes) == 1
    assert sizes.pop() % 256 == 0
    assert sum(len(rows) for _, rows in shards.cuts) == 10_000_000_000


def test_a_loader_is_refused_in_words() -> None:
    with pytest.raises(ArgumentError, match="list can be walked by one process alone: give a name"):
        Shards([torch.zeros(2, 1, 8, 8)], 2)


def test_what_is_not_finite_is_named_by_its_index_in_the_whole_set() -> None:
    """It was its index in the shard."""
    sets = demo.digits_data()
    images = demo.NORMALIZATION(sets.train.images)
    images[[-7, -5]] = torch.nan
    whole = replace(sets.train, images=images)
    probe = probe_of(demo.shipped(), normalization=demo.NORMALIZATION)
    with probe, pytest.raises(NonFiniteError) as of_one:
        list(forward(probe, whole, batch_size=10))
    shards = Shards(whole, 10)
    *_, last = shards.to_send()
    assert shards.start(last) == last.rows.start > 0
    batches = forward(probe, shards.open(last), batch_size=10, strict=False)
    with probe, pytest.raises(NonFiniteError) as of_many:
        list(finite(batches, shards.start(last)))
    assert str(of_many.value) == str(of_one.value)
    assert str(len(whole) - 7) in str(of_one.value)
