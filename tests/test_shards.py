"""Shards: written once, whole or not at all, and read as often as needed."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path

import pytest
import torch

from offmap.activations import Activations, Batch, Head, Shards
from offmap.errors import StoreError


def batches(start: int = 0, stop: int = 40, size: int = 8) -> Iterator[Batch]:
    for i in range(start, stop, size):
        rows = torch.arange(i, min(i + size, stop))
        x = rows[:, None].float()
        yield Activations(x.expand(-1, 3), x.expand(-1, 5), {"conv": x}), rows


def equal(a: Batch, b: Batch) -> bool:
    same = torch.equal(a[0].logits, b[0].logits) and torch.equal(a[0].features, b[0].features)
    return (
        same and torch.equal(a[0].layers["conv"], b[0].layers["conv"]) and torch.equal(a[1], b[1])
    )


@pytest.mark.parametrize("shard_bytes", [1, 700, 1 << 20])
def test_what_is_read_is_what_was_written(tmp_path: Path, shard_bytes: int) -> None:
    shards = Shards(tmp_path, shard_bytes=shard_bytes)
    written = list(shards.through(lambda start: batches(start)))
    assert shards.complete
    for read in (list(shards), list(shards.through(lambda start: pytest.fail("read again")))):
        assert all(equal(a, b) for a, b in zip(read, written, strict=True))


def test_a_broken_off_pass_keeps_what_was_finished(tmp_path: Path) -> None:
    def failing(start: int) -> Iterator[Batch]:
        yield from batches(start, 24)
        raise KeyboardInterrupt

    shards = Shards(tmp_path, shard_bytes=1)
    with pytest.raises(KeyboardInterrupt):
        list(shards.through(failing))
    assert not shards.complete
    starts: list[int] = []

    def rest(start: int) -> Iterator[Batch]:
        starts.append(start)
        return batches(start)

    whole = list(Shards(tmp_path).through(rest))
    assert starts == [24]
    assert all(equal(a, b) for a, b in zip(whole, batches(), strict=True))


def test_a_torn_file_is_never_left_under_its_name(tmp_path: Path) -> None:
    """A writer that dies leaves a file that readers do not take for a shard."""
    (tmp_path / ".123-000000.safetensors").write_bytes(b"torn")
    assert len(list(Shards(tmp_path).through(lambda start: batches(start)))) == 5


def test_the_head_is_kept_beside(tmp_path: Path) -> None:
    shards = Shards(tmp_path)
    assert shards.head is None
    shards.head = Head(torch.eye(3), torch.ones(3))
    assert torch.equal(Shards(tmp_path).head.bias, torch.ones(3))
    shards.head = Head(torch.eye(3))
    assert Shards(tmp_path).head.bias is None


def test_labels_and_features_may_be_missing(tmp_path: Path) -> None:
    shards = Shards(tmp_path)
    list(shards.through(lambda start: [(Activations(torch.zeros(2, 3)), None)]))
    ((acts, labels),) = shards
    assert not acts.has_features
    assert labels is None


@pytest.mark.parametrize("shard_bytes", [1, 1 << 20])
def test_batches_that_hold_other_things_are_not_cut_to_what_all_hold(
    tmp_path: Path, shard_bytes: int
) -> None:
    """A network may pass its head for some batches alone."""
    z, h, y = torch.randn(3, 4), torch.randn(3, 5), torch.tensor([0, 1, 2])
    written = [
        (Activations(z), y),
        (Activations(z, h), y),
        (Activations(z, h), None),
        (Activations(z), y),
    ]
    list(Shards(tmp_path, shard_bytes=shard_bytes).through(lambda start: written[start // 3 :]))
    read = list(Shards(tmp_path))
    assert [acts.has_features for acts, _ in read] == [False, True, True, False]
    assert [labels is None for _, labels in read] == [False, False, True, False]


def test_another_version_is_refused(tmp_path: Path) -> None:
    shards = Shards(tmp_path)
    list(shards.through(lambda start: batches(start)))
    (tmp_path / "index.json").write_text('{"version": 1, "samples": 40}')
    with pytest.raises(StoreError, match="version 1, and this offmap reads 3: delete the folder"):
        list(shards)


@pytest.mark.parametrize("whole", [True, False])
def test_a_deleted_shard_is_made_again(tmp_path: Path, whole: bool) -> None:
    shards = Shards(tmp_path, shard_bytes=1)
    list(shards.through(lambda start: batches(start, 40 if whole else 32)))
    if not whole:
        (tmp_path / "index.json").unlink()
    (tmp_path / f"{16:010d}.safetensors").unlink()
    starts: list[int] = []

    def rest(start: int) -> Iterator[Batch]:
        starts.append(start)
        return batches(start)

    for _ in range(2):
        read = list(Shards(tmp_path).through(rest))
        assert all(equal(a, b) for a, b in zip(read, batches(), strict=True))
    assert starts == [16]


def test_two_runs_that_fill_one_folder(tmp_path: Path) -> None:
    """Side by side, in batches of different sizes."""
    one = Shards(tmp_path, shard_bytes=1).through(lambda start: batches(start))
    other = Shards(tmp_path, shard_bytes=1).through(lambda start: batches(start, size=5))
    rows: tuple[list[int], list[int]] = ([], [])
    for a, b in zip_longest(one, other):
        for batch, seen in zip((a, b), rows, strict=True):
            seen.extend([] if batch is None else batch[1].tolist())
    again = [int(row) for _, labels in Shards(tmp_path) for row in labels]
    assert rows == (list(range(40)), list(range(40)))
    assert again == list(range(40))


def test_empty_batches_are_not_stored(tmp_path: Path) -> None:
    x = torch.zeros(0, 5)
    nothing = Activations(x[:, :3], x, {"conv": x[:, :1]}), torch.zeros(0, dtype=torch.long)
    list(Shards(tmp_path).through(lambda start: [*batches(), nothing]))
    assert sum(len(acts) for acts, _ in Shards(tmp_path)) == 40
    other = Shards(tmp_path / "none", shard_bytes=1)
    list(other.through(lambda start: [nothing, nothing]))
    assert not list(other)


def test_the_temporary_folder_goes() -> None:
    with Shards.temporary() as shards:
        list(shards.through(lambda start: batches(start)))
        folder = shards.folder
        assert folder.is_dir()
    assert not folder.exists()


def of_members() -> Iterator[Batch]:
    for acts, rows in batches():
        other = Activations(-acts.logits, acts.features[:, :2], {"layers.0": acts.layers["conv"]})
        yield Activations.of_members([acts, other]), rows


@pytest.mark.parametrize("shard_bytes", [1, 700, 1 << 20])
def test_members_are_read_as_they_were_written(tmp_path: Path, shard_bytes: int) -> None:
    written = list(Shards(tmp_path, shard_bytes=shard_bytes).through(lambda _: of_members()))
    for (a, rows), (b, read) in zip(written, Shards(tmp_path), strict=True):
        assert torch.equal(a.logits, b.logits)
        assert not b.has_features
        assert not b.layers
        assert equal((a.members[0], rows), (b.members[0], read))
        one, two = a.members[1], b.members[1]
        assert torch.equal(one.logits, two.logits)
        assert torch.equal(one.features, two.features)
        assert torch.equal(one.layers["layers.0"], two.layers["layers.0"])


def test_who_answers_is_read_as_it_was_written(tmp_path: Path) -> None:
    def answered() -> Iterator[Batch]:
        for acts, rows in batches():
            yield acts.replace(classifier_logits=-acts.logits), rows

    written = list(Shards(tmp_path).through(lambda _: answered()))
    for (a, _), (b, _) in zip(written, Shards(tmp_path), strict=True):
        assert torch.equal(a.classifier_logits, b.classifier_logits)
