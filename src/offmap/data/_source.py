"""Images at rest: what folders, Parquet files, arrays and the hub have in common."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

from jaxtyping import Int64
from torch import Tensor

from offmap.data._decode import Item


class Source(Protocol):
    """Encoded images by row, with their labels and the names of the classes."""

    @property
    def labels(self) -> Int64[Tensor, " n"] | None: ...
    @property
    def classes(self) -> tuple[str, ...]: ...
    def __len__(self) -> int: ...
    def read(self, rows: Iterable[int]) -> Iterator[Item]:
        """Where each of these rows lies, and its image, in the order given."""
