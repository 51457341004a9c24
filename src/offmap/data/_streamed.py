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

from offmap.data._decode import Pixels, Skipped, decode_all
from offmap.data._fit import Fit, as_size
from offmap.data._image_set import Batch, ImageSet, check_reading
from offmap.data._labels import check_labels
from offmap.data._pick import Pickable, pick, picked
from offmap.data._settle import settle, unequal, unreadable
from offmap.data._source import Source
from offmap.errors import DataError

_HOLD = 1024  # images at a time on their way into memory


@dataclass(frozen=True, eq=False)
class StreamedSet(Pickable):
    """Images too many to hold: decoded in threads batch by batch, in bounded memory.

    Reads like an :class:`ImageSet`. An image that turns out to be corrupt is left out of its batch,
    which is then shorter; it keeps its position, and counts in ``len``.

    Args:
        name: what tables call the set.
        source: the encoded images.
        rows: which of its rows make up the set, ``(n,)``.
        fit: what each image goes through.
        shape: channels, height and width of every image.
        labels: a class index for each image, ``(n,)``.
        classes: name of each class; may be empty.
        transform: the same as ``fit``, in words.
    """

    name: str
    source: Source = field(repr=False)
    rows: Int64[Tensor, " n"] = field(repr=False)
    fit: Fit = field(repr=False)
    shape: tuple[int, int, int]
    labels: Int64[Tensor, " n"] | None = field(default=None, repr=False)
    classes: tuple[str, ...] = field(default=(), repr=False)
    transform: str = ""
    _met: dict[int, Skipped] = field(default_factory=dict, init=False, repr=False)

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
        before: str = "",
    ) -> Self:
        """The set that ``load`` makes of a source; ``before`` says what was done to it already."""
        total = len(source)
        if not total:
            raise DataError(f"{name} is empty: it holds no images")
        check_labels(name, total, source.labels, source.classes)
        rows = pick(total if limit is None else limit, total, seed)
        fit, shape = settle(source.read(rows.tolist()), as_size(size), channels, name)
        labels = None if source.labels is None else source.labels[rows]
        name = name if limit is None else picked(name, limit, total, seed)
        return cls(name, source, rows, fit, shape, labels, source.classes, f"{before}{fit}")

    @property
    def fingerprint(self) -> None:
        """None: the content is not known before it is read."""

    @property
    def skipped(self) -> tuple[Skipped, ...]:
        """The corrupt images met so far, in data order."""
        return tuple(self._met[i] for i in sorted(self._met))

    @property
    def nbytes(self) -> int:
        """Bytes of all the images once decoded."""
        return len(self) * prod(self.shape)

    def __len__(self) -> int:
        return len(self.rows)

    def batches(self, batch_size: int, start: int = 0) -> Iterator[Batch]:
        """Images and labels in order.

        Args:
            batch_size: images at a time; fewer where some are corrupt, and in the last batch.
            start: position of the first image, to go on where an earlier run stopped.

        Raises:
            DataError: while reading: an image of another size, or none that can be read.
        """
        check_reading(batch_size, start)
        return self._batches(batch_size, start)

    def hold(self) -> ImageSet:
        """Everything, in memory."""
        images = torch.empty(len(self), *self.shape, dtype=torch.uint8)
        n = 0
        for batch, _ in self.batches(_HOLD):
            images[n : n + len(batch)] = batch
            n += len(batch)
        good = [i for i in range(len(self)) if i not in self._met]
        labels = None if self.labels is None else self.labels[good]
        return ImageSet(self.name, images[:n], labels, self.classes, self.skipped, self.transform)

    def _batches(self, batch_size: int, start: int) -> Iterator[Batch]:
        items = self.source.read(self.rows[start:].tolist())
        with closing(decode_all(items, self.fit)) as decoded:
            for first in range(start, len(self), batch_size):
                # In this order zip takes no image that belongs to the next batch.
                batch = zip(range(first, min(first + batch_size, len(self))), decoded, strict=False)
                good = {i: x for i, met in batch if (x := self._good(i, met)) is not None}
                if good:
                    yield self._stack(good)
        if len(self._met) == len(self):
            raise unreadable(self.name, self.skipped)

    def _good(self, i: int, met: Pixels | Skipped) -> Pixels | None:
        if isinstance(met, Skipped):
            self._met[i] = met
            return None
        if met.shape != self.shape:
            raise unequal(self.name, self.shape, met.shape)
        return met

    def _stack(self, good: dict[int, Pixels]) -> Batch:
        images = torch.from_numpy(np.stack(list(good.values())))
        return images, None if self.labels is None else self.labels[list(good)]

    def _derive(
        self,
        rows: Int64[Tensor, " m"],
        name: str,
        labels: Int64[Tensor, " m"] | None,
        classes: tuple[str, ...],
    ) -> Self:
        kept, how = self.rows[rows], (self.fit, self.shape)
        made = type(self)(name, self.source, kept, *how, labels, classes, self.transform)
        met = ((new, self._met.get(old)) for new, old in enumerate(rows.tolist()))
        made._met.update((new, skipped) for new, skipped in met if skipped)
        return made
