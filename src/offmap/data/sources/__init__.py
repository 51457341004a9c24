"""Images at rest: what folders, Parquet files, arrays and the hub have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator

from offmap.data._decode import Item, Skipped
from offmap.data.types import Labels


class Source(ABC):
    """Encoded images by row, with their labels and the names of the classes.

    ``left_out`` are files that lie beside the images and are none.
    """

    labels: Labels
    classes: tuple[str, ...]
    left_out: tuple[Skipped, ...] = ()

    @abstractmethod
    def __len__(self) -> int:
        """Number of images."""

    @abstractmethod
    def read(self, rows: Iterable[int]) -> Iterator[Item]:
        """Where each of these rows lies, and its image, in the order given."""

    def keys(self, rows: Iterable[int]) -> tuple[str, ...]:
        """A text for each of these rows that no other row has and that stays the same."""
        return tuple(map(str, rows))
