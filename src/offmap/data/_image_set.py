"""Images held in memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

import torch
from jaxtyping import Int64
from torch import Tensor

from offmap.data._decode import Skipped
from offmap.data._labels import check_labels
from offmap.data._own_transform import OwnTransform
from offmap.data._subsets import Subsets, check_range, check_reading, sha256_of
from offmap.data.types import Batch, Images, KeyedBatch, Resize
from offmap.errors import DataError


@dataclass(frozen=True, eq=False, repr=False)
class ImageSet(Subsets):
    """Images in memory, with their labels where they have any.

    Args:
        name: what tables call the set, such as ``cifar10:test``.
        images: pixels ``(n, c, h, w)``: uint8, 0 to 255, to be normalised by the forward pass; or
            float32 already normalised (noise drawn in normalised space).
        labels: a class index for each image, ``(n,)``.
        classes: name of each class; may be empty.
        skipped: images of the source that could not be read.
        transform: what was done to the images between file and tensor.
        left_out: files that lay beside the images and are none.
        resize: how the images were brought to their size, so that others can be brought to it;
            ``None`` of images as given.
        sample_keys: a key for each image; without them, they are the rows.
        own: the user's function that made the images, so that others can be made by it.
        half_of: what ``split`` halved, the same for both halves; empty of other sets.

    Raises:
        DataError: no images, images of another kind, or keys of another number than the images.
        LabelError: labels of another number than the images, or beyond the classes.
    """

    name: str
    images: Images
    labels: Int64[Tensor, " n"] | None = None
    classes: tuple[str, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    transform: str = "as given"
    left_out: tuple[Skipped, ...] = ()
    resize: Resize | None = None
    sample_keys: tuple[str, ...] | None = None
    own: OwnTransform | None = None
    half_of: str = ""

    def __post_init__(self) -> None:
        x = self.images
        if x.ndim != 4 or x.dtype not in (torch.uint8, torch.float32) or not x.numel():
            raise DataError(
                f"{self.name} must hold images (n, c, h, w), uint8 or (normalised) float32, at "
                f"least one; seen {x.dtype} of shape {tuple(x.shape)}"
            )
        # As texts, also where they are numbers: classes of other sets are looked up by name.
        object.__setattr__(self, "classes", tuple(map(str, self.classes)))
        check_labels(self.name, len(x), self.labels, self.classes)
        if self.sample_keys is not None and len(self.sample_keys) != len(x):
            raise DataError(
                f"{self.name} has {len(self.sample_keys)} keys for {len(x)} images: give each one"
            )

    def __len__(self) -> int:
        return len(self.images)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width."""
        c, h, w = self.images.shape[1:]
        return c, h, w

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over type, shape and bytes of the images, in hexadecimal."""
        return sha256_of(self.images)

    def batches(self, batch_size: int, start: int = 0) -> Iterator[Batch]:
        """Images and labels in order, as views of the set.

        Args:
            batch_size: images at a time; the last batch may be shorter.
            start: position of the first image, to go on where an earlier run stopped.
        """
        check_reading(batch_size, start)
        rows = (slice(i, i + batch_size) for i in range(start, len(self), batch_size))
        labels = self.labels
        return ((self.images[r], None if labels is None else labels[r]) for r in rows)

    def keys(self, start: int, stop: int) -> tuple[str, ...]:
        """Paths below the folder of the set, or rows; those of the whole set in a subset."""
        check_range(start, stop)
        if self.sample_keys is not None:
            return self.sample_keys[start:stop]
        return tuple(map(str, range(len(self))[start:stop]))

    def keyed_batches(self, batch_size: int, start: int = 0) -> Iterator[KeyedBatch]:
        """Images, labels and keys in order; arguments as ``batches``."""
        batches = self.batches(batch_size, start)
        firsts = range(start, len(self), batch_size)
        return (
            (images, labels, self.keys(first, first + len(images)))
            for first, (images, labels) in zip(firsts, batches, strict=True)
        )

    def _derive(
        self,
        rows: Int64[Tensor, " m"],
        name: str,
        labels: Int64[Tensor, " m"] | None,
        classes: tuple[str, ...],
    ) -> Self:
        keys = self.keys(0, len(self))
        return replace(
            self,
            name=name,
            images=self.images[rows],
            labels=labels,
            classes=classes,
            sample_keys=tuple(keys[row] for row in rows.tolist()),
            half_of="",
        )
