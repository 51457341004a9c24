"""Data cut into shards of whole batches, told by number, whoever reads them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from offmap._utils.inputs import count_of, rows_of
from offmap.data import ImageSet, JoinedSet, Skipped, StreamedSet
from offmap.errors import ArgumentError
from offmap.forward import Batched

_BATCHES = 16  # of a shard at least: what is lost with a worker
_SHARDS = 8192  # at most, as each sends its statistics


@dataclass(frozen=True)
class Shard:
    """Some of the samples.

    Args:
        number: of the shard.
        part: of joined sets.
        rows: of that part.
        images: they themselves, where they are held in memory and so must be sent.
    """

    number: int
    part: int
    rows: range
    images: ImageSet | None = None


class Shards:
    """The shards of a set: the same for any number of workers, so that what is learned is too.

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
        """What a worker that has :meth:`without_images` needs to read each shard."""
        for number, (part, rows) in enumerate(self.cuts):
            data = self.parts[part]
            held = data.subset(list(rows)) if isinstance(data, ImageSet) else None
            yield Shard(number, part, rows, None if held is None else replace(held, name=data.name))

    def without_images(self) -> Shards:
        """The same, of which images in memory are not sent to every worker."""
        other = object.__new__(Shards)
        vars(other).update(vars(self))
        other.parts = [None if isinstance(each, ImageSet) else each for each in self.parts]
        return other

    def open(self, shard: Shard) -> Any:
        """The samples of a shard as a set, with the keys that they have in the whole."""
        data = shard.images or self.parts[shard.part]
        if isinstance(data, StreamedSet):
            own = data.subset(list(shard.rows))
            data = replace(own, name=data.name)
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
        left = len(self) - start
        for inputs, labels in self.data.batches(batch_size, self.rows.start + start):
            if left <= 0:
                return
            yield rows_of(inputs, slice(left)), None if labels is None else labels[:left]
            left -= count_of(inputs)

    def keys(self, start: int, stop: int) -> tuple[str, ...]:
        rows = self.rows[start:stop]
        of = getattr(self.data, "keys", None)
        return tuple(of(rows.start, rows.stop)) if callable(of) else tuple(map(str, rows))


def corrupt_in(data: Any) -> tuple[Skipped, ...]:
    """Images of a set that turned out to be corrupt."""
    return tuple(getattr(data, "skipped", ()))


def all_corrupt(data: Any) -> bool:
    """Whether none of a shard's images can be read, which its whole set may survive."""
    return bool(len(data)) and len(corrupt_in(data)) == len(data)
