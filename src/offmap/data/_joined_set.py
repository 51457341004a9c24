"""Several sets as one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain

import torch
from jaxtyping import Int64
from torch import Tensor

from offmap._utils.warning import warn_user
from offmap.data._decode import Skipped
from offmap.data._image_set import ImageSet
from offmap.data._own_transform import OwnTransform
from offmap.data._streamed_set import StreamedSet
from offmap.data._subsets import check_range, check_reading, described
from offmap.data.types import Batch, KeyedBatch, Resize
from offmap.errors import ArgumentError, LabelError, LeftOutWarning, ShapeError


@dataclass(frozen=True, eq=False, repr=False)
class JoinedSet:
    """Several sets, one behind the other; made by :func:`join`.

    A batch holds samples of one part. Keys are ``NAME/KEY``, with the name of the part.

    Args:
        parts: of one shape, with the same classes; each has a name of its own.
    """

    parts: tuple[ImageSet | StreamedSet, ...]

    @property
    def name(self) -> str:
        """The names of the parts."""
        return " + ".join(part.name for part in self.parts)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width."""
        return self.parts[0].shape

    @property
    def resize(self) -> Resize | None:
        """How the images were brought to their size; ``None`` of images as given."""
        return self.parts[0].resize

    @property
    def own(self) -> OwnTransform | None:
        """The user's function that made the images."""
        return self.parts[0].own

    @property
    def classes(self) -> tuple[str, ...]:
        """Name of each class."""
        return self.parts[0].classes

    @property
    def transform(self) -> str:
        """How the images were prepared; where that differs, of each part."""
        return " + ".join(dict.fromkeys(part.transform for part in self.parts))

    @property
    def skipped(self) -> tuple[Skipped, ...]:
        """Images that could not be read."""
        return tuple(chain.from_iterable(part.skipped for part in self.parts))

    @property
    def left_out(self) -> tuple[Skipped, ...]:
        """Files that lie beside the images and are none."""
        return tuple(chain.from_iterable(part.left_out for part in self.parts))

    @property
    def labels(self) -> Int64[Tensor, " n"] | None:
        """A class index for each image; ``None`` if a part has none."""
        labels = [part.labels for part in self.parts if part.labels is not None]
        return torch.cat(labels) if len(labels) == len(self.parts) else None

    @cached_property
    def fingerprint(self) -> str | None:
        """The fingerprints of the parts, with spaces between; ``None`` if one is not known."""
        return _join_hashes(part.fingerprint for part in self.parts)

    @cached_property
    def label_fingerprint(self) -> str | None:
        """The same of the labels; ``None`` if a part has none."""
        return _join_hashes(part.label_fingerprint for part in self.parts)

    def __repr__(self) -> str:
        return described(self)

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def keys(self, start: int, stop: int) -> tuple[str, ...]:
        """The keys of the samples from position ``start`` up to, but without, ``stop``."""
        check_range(start, stop)
        keys: list[str] = []
        for part in self.parts:
            keys += (f"{part.name}/{key}" for key in part.keys(max(start, 0), max(stop, 0)))
            start, stop = start - len(part), stop - len(part)
        return tuple(keys)

    def with_classes(self, classes: Sequence[str]) -> JoinedSet:
        """The same samples, with labels that count in these classes, as of a set by itself."""
        return JoinedSet(tuple(part.with_classes(classes) for part in self.parts))

    def batches(self, batch_size: int, start: int = 0) -> Iterator[Batch]:
        """Images and labels, part by part.

        Args:
            batch_size: images at a time; fewer in the last batch of a part.
            start: position of the first image.
        """
        return ((images, labels) for images, labels, _ in self.keyed_batches(batch_size, start))

    def keyed_batches(self, batch_size: int, start: int = 0) -> Iterator[KeyedBatch]:
        """Images, labels and keys; arguments as ``batches``."""
        check_reading(batch_size, start)
        return self._read(batch_size, start)

    def _read(self, batch_size: int, start: int) -> Iterator[KeyedBatch]:
        labelled = self.labels is not None
        for part in self.parts:
            for images, labels, keys in part.keyed_batches(batch_size, min(start, len(part))):
                names = tuple(f"{part.name}/{key}" for key in keys)
                yield images, labels if labelled else None, names
            start = max(start - len(part), 0)


def join(sets: Sequence[ImageSet | StreamedSet]) -> ImageSet | StreamedSet | JoinedSet:
    """Several sets as one; a single one stays what it is.

    Labels count in the classes of the first set. Where one set has no labels, none are used.

    Warns:
        LeftOutWarning: there are labels, and not in all of the sets.

    Raises:
        ArgumentError: no sets, two of one name, or two of the same images.
        ShapeError: images of different shapes.
        LabelError: a class that the first set does not have.
    """
    if not sets:
        raise ArgumentError("no sets to join: give at least one")
    first = sets[0]
    for i, part in enumerate(sets):
        for other in sets[:i]:
            same = part.fingerprint is not None and part.fingerprint == other.fingerprint
            if same or part.name == other.name:
                raise ArgumentError(
                    f"{other.name} and {part.name} are the same data: each counts once; leave one "
                    "out"
                )
        if part.shape != first.shape:
            raise ShapeError(
                f"{part.name} holds images of {part.shape}, and {first.name} of {first.shape}: "
                "load both at one size, with the same channels"
            )
    unlabelled = [part.name for part in sets if part.labels is None]
    if 0 < len(unlabelled) < len(sets):
        warn_user(
            f"no label of these {len(sets)} sets is used, because {', '.join(unlabelled)} has none"
            ": give the sets with labels alone, if labels are needed",
            LeftOutWarning,
        )
    if len(sets) == 1:
        return first
    parts = []
    for part in sets:
        if unlabelled or part.classes == first.classes:
            parts.append(part)
        elif first.classes:
            parts.append(part.with_classes(first.classes))
        else:
            raise LabelError(f"{part.name} has names for its classes, and {first.name} has none")
    return JoinedSet(tuple(parts))


def _join_hashes(fingerprints: Iterator[str | None]) -> str | None:
    hashes = list(fingerprints)
    return None if None in hashes else " ".join(map(str, hashes))
