"""A folder of images in an object store."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Self

from offmap._utils.addresses import Remote
from offmap.data._decode import Item, Skipped
from offmap.data._left_out import HIDDEN, NO_SUFFIX, UNREAD, skipped_in_words
from offmap.data.sources import Source
from offmap.data.sources.folder import SUFFIXES, is_system, labels_of
from offmap.data.types import Labels
from offmap.errors import DataError


@dataclass(frozen=True, eq=False)
class Store(Source):
    """Images below an address: class by class, or flat and without labels, as in a folder.

    What is an image is told by its suffix alone, as looking would read every file.
    """

    root: Remote
    names: tuple[str, ...]
    labels: Labels
    classes: tuple[str, ...]
    left_out: tuple[Skipped, ...] = ()

    @classmethod
    def scan(cls, root: Remote) -> Self:
        """The images under an address; hidden files and folders are left out.

        Raises:
            DataError: no images, images beside folders of images, or a folder of splits.
            DataNotFoundError: there is nothing, or no answer.
        """
        names, left_out = search(root)
        if not names:
            reasons = skipped_in_words(str(root), (), left_out)
            raise DataError("; ".join(filter(None, [f"{root} holds no images", reasons])))
        below = [name.split("/")[:-1] for name in names if "/" in name]
        subfolders = sorted({first for first, *_ in below})
        labels, classes = labels_of(below, len(names), subfolders, str(root))
        return cls(root, names, labels, classes, left_out)

    def __len__(self) -> int:
        return len(self.names)

    def read(self, rows: Iterable[int]) -> Iterator[Item]:
        """Addresses only: the threads that decode also read."""
        files = (self.root.file(self.names[row]) for row in rows)
        return ((str(file), file) for file in files)

    def keys(self, rows: Iterable[int]) -> tuple[str, ...]:
        """Paths below the root."""
        return tuple(self.names[row] for row in rows)


def search(root: Remote) -> tuple[tuple[str, ...], tuple[Skipped, ...]]:
    """The images below an address, by their paths from it, sorted; and what is left out."""
    images: list[str] = []
    left_out: list[Skipped] = []
    for name in root.below():
        path = PurePosixPath(name)
        if any(map(is_system, path.parts)):
            reason = HIDDEN
        elif path.suffix.lower() in SUFFIXES:
            images.append(name)
            continue
        else:
            reason = f"{UNREAD} {path.suffix}" if path.suffix else NO_SUFFIX
        left_out.append(Skipped(str(root.file(name)), reason))
    return tuple(images), tuple(left_out)
