"""Data cut into numbered shards of whole batches, the same for any number of workers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from offmap._utils.inputs import count_of, rows_of
from offmap.data import ImageSet, JoinedSet, Skipped, StreamedSet
from offmap.errors import ArgumentError
from offmap.forward import Batched
from offmap.guard.calibration_data import acts_of

_BATCHES = 16  # of a shard, at least: the work that is lost with a worker
_SHARDS = 8192  # at most, as each sends its statistics


@dataclass(frozen=True)
class Shard:
    """Some of the samples.

    Args:
        number: of the shard.
        part: of joined sets.
        rows: of that part.
        images: the samples themselves, where they are in memory and so must be sent.
    """

    number: int
    part: int
    rows: range
    images: ImageSet | None = None


class Shards:
    """The shards of a set: the same for any number of workers, and so is what is learned.

    Args:
        data: a set of ``offmap.data``, or anything with ``len`` and ``batches(size, start)``.
        batch_size: samples a batch; shards end where batches do.

    Raises:
        ArgumentError: a loader, which one process alone can walk.
    """

    def __init__(self, data: Any, batch_size: int) -> None:
        if not isinstance(data, Batched):
            raise ArgumentError(
                f"{type(data).__name__} can be walked by one process alone: give a name or "
                "path, a set, or an object with len and batches(batch_size, start)"
            )
        self.joined = isinstance(data, JoinedSet)
        self.labelled = not isinstance(data, JoinedSet) or data.labels is not None
        self.parts: Sequence[Any] = data.parts if isinstance(data, JoinedSet) else (data,)
        self.batch_size = batch_size
        batches = max(_BATCHES, -(-len(data) // (batch_size * _SHARDS)))
        size = batches * batch_size
        self.cuts = [
            (part, range(start, min(start + size, len(each))))
            for part, each in enumerate(self.parts)
            for start in range(0, len(each), size)
        ]

    def __len__(self) -> int:
        return len(self.cuts)

    def to_send(self) -> Iterator[Shard]:
        """The shards, each with the images that :meth:`without_images` left out."""
        for number, (part, rows) in enumerate(self.cuts):
            data = self.parts[part]
            images = None
            if isinstance(data, ImageSet):
                images = replace(data.subset(list(rows)), name=data.name)
            yield Shard(number, part, rows, images)

    def start(self, shard: Shard) -> int:
        """The index of the first sample of a shard in the whole set."""
        return sum(len(rows) for _, rows in self.cuts[: shard.number])

    def without_images(self) -> Shards:
        """A copy without images in memory, which need not be sent to every worker."""
        shards = object.__new__(Shards)
        vars(shards).update(vars(self))
        shards.parts = [None if isinstance(each, ImageSet) else each for each in self.parts]
        return shards

    def open(self, shard: Shard) -> Any:
        """The samples of a shard as a set, with their keys in the whole set."""
        data = shard.images or self.parts[shard.part]
        if isinstance(data, StreamedSet):
            data = replace(data.subset(list(shard.rows)), name=data.name)
        elif not isinstance(data, ImageSet):
            return _Rows(data, shard.rows)
        if not self.labelled:
            data = replace(data, labels=None, classes=())
        return JoinedSet((data,)) if self.joined else data


class _Rows:
    """Some rows of data that are no set of this library."""

    def __init__(self, data: Any, rows: range) -> None:
        self.data, self.rows = data, rows
        if hasattr(data, "name"):
            self.name = data.name

    def __len__(self) -> int:
        return len(self.rows)

    def batches(self, batch_size: int, start: int = 0) -> Iterator[Any]:
        remainder = len(self) - start
        for inputs, labels in self.data.batches(batch_size, self.rows.start + start):
            if remainder <= 0:
                return
            yield rows_of(inputs, slice(remainder)), None if labels is None else labels[:remainder]
            remainder -= count_of(inputs)

    def keys(self, start: int, stop: int) -> tuple[str, ...]:
        rows = self.rows[start:stop]
        keys = getattr(self.data, "keys", None)
        return tuple(keys(rows.start, rows.stop)) if callable(keys) else tuple(map(str, rows))


def finite(batches: Iterable[Any], start: int) -> Iterator[Any]:
    """The same batches; refuses NaN and infinity by the index of a sample in the whole set.

    Args:
        batches: of activations or samples, and labels.
        start: index of the first sample.

    Raises:
        NonFiniteError: as :func:`offmap.forward.forward`, which would count from the shard's first.
    """
    for batch, labels in batches:
        acts_of(batch).check_finite(start=start)
        start += len(batch)
        yield batch, labels


def corrupt_in(data: Any) -> tuple[Skipped, ...]:
    """Images of a set that turned out to be corrupt."""
    return tuple(getattr(data, "skipped", ()))


def all_corrupt(data: Any) -> bool:
    """Whether none of a shard's images can be read, though others of the set may be."""
    return bool(len(data)) and len(corrupt_in(data)) == len(data)
