"""Images decoded as they are read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from math import prod
from typing import Self

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from offmap.data._decode import (
    Pixels,
    Skipped,
    decode_all,
    preprocessing_for,
    shape_of_own,
    unreadable,
)
from offmap.data._image_set import ImageSet
from offmap.data._labels import check_labels
from offmap.data._left_out import skipped_in_words, tell, tell_skipped
from offmap.data._own_transform import OwnTransform
from offmap.data._preprocessing import Preprocessing
from offmap.data._subsets import Subsets, check_range, check_reading, sample_rows, sampled_name
from offmap.data.sources import Source
from offmap.data.types import Batch, KeyedBatch, Resize
from offmap.errors import DataError

_CHUNK = 1024  # images at a time on their way into memory


@dataclass(frozen=True, eq=False, repr=False)
class StreamedSet(Subsets):
    """Images too many to hold: decoded in threads batch by batch, in bounded memory.

    Reads like an :class:`ImageSet`. An image that turns out to be corrupt is left out of its batch,
    which is then shorter; it keeps its position and key, and counts in ``len``.

    Args:
        name: what tables call the set.
        source: the encoded images.
        rows: which of its rows make up the set, ``(n,)``.
        preprocessing: what each image goes through.
        shape: channels, height and width of every image.
        labels: a class index for each image, ``(n,)``.
        classes: name of each class; may be empty.
        transform: the same as ``preprocessing``, in words.
        corrupt: the corrupt images met so far, by position.
        half_of: what ``split`` halved, the same for both halves; empty of other sets.
    """

    name: str
    source: Source
    rows: Int64[Tensor, " n"]
    preprocessing: Preprocessing | OwnTransform
    shape: tuple[int, int, int]
    labels: Int64[Tensor, " n"] | None = None
    classes: tuple[str, ...] = ()
    transform: str = ""
    corrupt: dict[int, Skipped] = field(default_factory=dict)
    half_of: str = ""

    @classmethod
    def of(
        cls,
        source: Source,
        name: str,
        *,
        size: int | tuple[int, int] | None = None,
        channels: int | None = None,
        limit: int | None = None,
        seed: int = 0,
        resize: Resize = "crop",
        own: OwnTransform | None = None,
        before: str = "",
    ) -> Self:
        """The set that ``load`` makes of a source; ``before`` says what was done to it already."""
        total = len(source)
        if not total:
            raise DataError(f"{name} is empty: it holds no images")
        check_labels(name, total, source.labels, source.classes)
        rows = sample_rows(total if limit is None else limit, total, seed)
        items = source.read(rows.tolist())
        preprocessing: Preprocessing | OwnTransform
        if own is None:
            preprocessing, shape = preprocessing_for(
                items, name, size=size, channels=channels, resize=resize
            )
        else:
            preprocessing, shape = own, shape_of_own(items, name, own)
        return cls(
            name if limit is None else sampled_name(name, limit, total, seed),
            source,
            rows,
            preprocessing,
            shape,
            None if source.labels is None else source.labels[rows],
            source.classes,
            f"{before}{preprocessing}",
        )

    @property
    def fingerprint(self) -> None:
        """``None``, as the content is not known before it is read."""

    @property
    def skipped(self) -> tuple[Skipped, ...]:
        """The corrupt images met so far, in data order."""
        return tuple(self.corrupt[i] for i in sorted(self.corrupt))

    @property
    def left_out(self) -> tuple[Skipped, ...]:
        """Files that lie beside the images and are none."""
        return self.source.left_out

    @property
    def resize(self) -> Resize:
        """How the images are brought to their size."""
        return self.preprocessing.resize

    @property
    def own(self) -> OwnTransform | None:
        """The user's function that makes the images, if there is one."""
        return self.preprocessing if isinstance(self.preprocessing, OwnTransform) else None

    @property
    def nbytes(self) -> int:
        """Bytes of all the images once decoded."""
        return len(self) * prod(self.shape) * self.preprocessing.bytes

    def __len__(self) -> int:
        return len(self.rows)

    def keys(self, start: int, stop: int) -> tuple[str, ...]:
        """Paths below the folder of the set, or rows; those of the whole set in a subset.

        Corrupt images have keys as well: :meth:`keyed_batches` gives those of the images read.
        """
        check_range(start, stop)
        return self.source.keys(self.rows[start:stop].tolist())

    def batches(self, batch_size: int, start: int = 0) -> Iterator[Batch]:
        """Images and labels in order.

        Args:
            batch_size: images at a time; fewer where some are corrupt, and in the last batch.
            start: position of the first image, to go on where an earlier run stopped.

        Raises:
            DataError: while reading: an image of another size, or none that can be read.
        """
        batches = self.keyed_batches(batch_size, start)
        return ((images, labels) for images, labels, _ in batches)

    def keyed_batches(self, batch_size: int, start: int = 0) -> Iterator[KeyedBatch]:
        """Images, labels and keys of the images that could be read; arguments as ``batches``."""
        check_reading(batch_size, start)
        return self._read_and_warn(batch_size, start)

    def hold(self) -> ImageSet:
        """The images in memory; a warning counts those that are not used."""
        images, n = torch.empty(0, device="cpu"), 0
        for batch, _, _ in self._read(_CHUNK, 0):
            if not n:
                images = batch.new_empty(len(self), *self.shape)
            images[n : n + len(batch)] = batch
            n += len(batch)
        intact = [i for i in range(len(self)) if i not in self.corrupt]
        image_set = ImageSet(
            self.name,
            images[:n],
            None if self.labels is None else self.labels[intact],
            self.classes,
            self.skipped,
            self.transform,
            self.left_out,
            self.resize,
            self.source.keys(self.rows[intact].tolist()),
            self.own,
        )
        tell_skipped(image_set)
        return image_set

    def _read_and_warn(self, batch_size: int, start: int) -> Iterator[KeyedBatch]:
        """Keyed batches; after a pass that met new corrupt images, a warning counts all of them."""
        count = len(self.corrupt)
        yield from self._read(batch_size, start)
        if len(self.corrupt) > count:
            tell(skipped_in_words(self.name, self.skipped))

    def _read(self, batch_size: int, start: int) -> Iterator[KeyedBatch]:
        items = self.source.read(self.rows[start:].tolist())
        with closing(decode_all(items, self.preprocessing)) as decoded:
            for first in range(start, len(self), batch_size):
                positions = range(first, min(first + batch_size, len(self)))
                # In this order zip takes no image that belongs to the next batch.
                batch = zip(positions, decoded, strict=False)
                images = {i: x for i, raw in batch if (x := self._intact(i, raw)) is not None}
                if images:
                    readable = list(images)
                    labels = None if self.labels is None else self.labels[readable]
                    keys = self.source.keys(self.rows[readable].tolist())
                    yield torch.from_numpy(np.stack(list(images.values()))), labels, keys
        if len(self.corrupt) == len(self):
            raise unreadable(self.name, self.skipped)

    def _intact(self, i: int, image: Pixels | Skipped) -> Pixels | None:
        """The image; or None for a corrupt one, which enters ``corrupt``."""
        if isinstance(image, Skipped):
            self.corrupt[i] = image
            return None
        if image.shape != self.shape:
            sizes = " and ".join(f"{h}x{w}" for _, h, w in (self.shape, image.shape))
            raise DataError(
                f"the images of {self.name} differ in size: seen {sizes}; pass size, for one "
                "number the length of the shorter side"
            )
        return image

    def _derive(
        self,
        rows: Int64[Tensor, " m"],
        name: str,
        labels: Int64[Tensor, " m"] | None,
        classes: tuple[str, ...],
    ) -> Self:
        corrupt = {
            new: self.corrupt[old] for new, old in enumerate(rows.tolist()) if old in self.corrupt
        }
        return type(self)(
            name,
            self.source,
            self.rows[rows],
            self.preprocessing,
            self.shape,
            labels,
            classes,
            self.transform,
            corrupt,
        )
