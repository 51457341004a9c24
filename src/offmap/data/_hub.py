"""Data sets of the Hugging Face hub, or of a local folder in its layout."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import import_module
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any, Self

from jaxtyping import Int64
from torch import Tensor

from offmap.data._decode import Item
from offmap.data._labels import Labels, as_labels
from offmap.data._parquet import as_raw
from offmap.data._splits import choose_split
from offmap.errors import DataError, DataNotFoundError, MissingExtraError

_CHUNK = 64  # rows a query


@dataclass(frozen=True, eq=False)
class Hub:
    """One split; ``images`` is a ``datasets.Dataset`` of the undecoded image column alone."""

    where: str
    images: Any
    labels: Int64[Tensor, " n"] | None
    classes: tuple[str, ...]

    @classmethod
    def open(
        cls,
        repository: str,
        split: str | None = None,
        *,
        config: str | None = None,
        image: str | None = None,
        label: str | None = None,
    ) -> Self:
        """Download if need be, and read the labels.

        Args:
            repository: ``owner/name``, or a local folder.
            split: as in :func:`choose_split`.
            config: which of the repository's sets.
            image: column of images; if it is not there, the first of that type.
            label: column of labels; if it is not there, the first of type ClassLabel, if any.

        Raises:
            MissingExtraError: the library ``datasets`` is not installed.
            DataNotFoundError: nothing there, or no such split.
            DataError: no column of images.
        """
        datasets = library()
        where = f"hf:{repository}"
        try:
            there = datasets.get_dataset_split_names(repository, config)
            chosen = choose_split(there, split, where)
            data = datasets.load_dataset(repository, config, split=chosen)
        except DataNotFoundError:
            raise
        except Exception as error:  # of network, hub, cache or files, each with its own types
            raise DataNotFoundError(f"{where} cannot be loaded: {error}") from error
        return cls.of(data, f"{where}:{chosen}", image, label)

    @classmethod
    def of(cls, data: Any, where: str, image: str | None, label: str | None) -> Self:
        """The same for a loaded ``datasets.Dataset``."""
        datasets = library()
        image = _column(data, image, datasets.Image)
        label = _column(data, label, datasets.ClassLabel)
        if image is None:
            columns = ", ".join(f"{name} ({kind})" for name, kind in data.features.items())
            raise DataError(f"{where} has no column of images: its columns are {columns}")
        images = data.select_columns([image]).cast_column(image, datasets.Image(decode=False))
        return cls(where, images, *_labels(data, label, where))

    def __len__(self) -> int:
        return len(self.images)

    def read(self, rows: Iterable[int]) -> Iterator[Item]:
        """Undecoded: the rules for pixels are the same for all sources."""
        left = iter(rows)
        column = self.images.column_names[0]
        while chunk := list(islice(left, _CHUNK)):
            for row, cell in zip(chunk, self.images[chunk][column], strict=True):
                yield f"{self.where} row {row}", as_raw(cell, Path())


def library() -> ModuleType:
    """The optional library ``datasets``."""
    try:
        return import_module("datasets")
    except ImportError as error:
        raise MissingExtraError("datasets", "hub") from error


def _column(data: Any, wanted: str | None, kind: type) -> str | None:
    of_kind = (name for name, feature in data.features.items() if isinstance(feature, kind))
    return wanted if wanted in data.features else next(of_kind, None)


def _labels(data: Any, column: str | None, where: str) -> Labels:
    if column is None:
        return None, ()
    names = getattr(data.features[column], "names", ())
    return as_labels(data.select_columns([column])[:][column], where, names)
