"""A Parquet file of encoded images."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from jaxtyping import Int64

from offmap._utils.addresses import Remote, opened
from offmap.data._decode import Item, Raw
from offmap.data._labels import as_labels
from offmap.data.sources import Source
from offmap.data.types import Labels
from offmap.errors import DataError, LabelError

if TYPE_CHECKING:
    import pyarrow.parquet as pq

_IMAGE = ("image", "img")  # names of the columns, in the order in which they are looked for
_LABEL = ("label", "fine_label")


@dataclass(frozen=True, eq=False)
class Parquet(Source):
    """Rows of one file, read by row group; ``ends`` are the ends of the groups."""

    path: Path | Remote
    column: str
    ends: Int64[np.ndarray, " g"]
    labels: Labels
    classes: tuple[str, ...]

    @classmethod
    def open(cls, path: Path | Remote, *, labelled: bool = True) -> Self:
        """Open a file without reading images; labels are read if ``labelled``.

        Raises:
            DataError: not a Parquet file, or one without a column of images.
            LabelError: labels that are missing, or neither whole numbers nor strings.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq
        from pyarrow import types

        try:
            file = pq.ParquetFile(opened(path))
        except (OSError, pa.ArrowException) as error:
            raise DataError(f"{path} cannot be read as a Parquet file: {error}") from error
        with file:
            binary = [
                field.name
                for field in file.schema_arrow
                if types.is_binary(field.type)
                or types.is_large_binary(field.type)
                or (types.is_struct(field.type) and field.type.get_field_index("bytes") >= 0)
            ]
            column, *others = [name for name in _IMAGE if name in binary] or binary or [""]
            if not column or (others and column not in _IMAGE):
                columns = ", ".join(f"{field.name} ({field.type})" for field in file.schema_arrow)
                raise DataError(
                    f"{path} has no column 'image' of encoded images (bytes, or a struct with "
                    f"bytes); its columns are {columns}"
                )
            groups = range(file.metadata.num_row_groups)
            ends = np.cumsum([file.metadata.row_group(g).num_rows for g in groups], dtype=np.int64)
            labels, classes = _labels(file, path) if labelled else (None, ())
            return cls(path, column, ends, labels, classes)

    def __len__(self) -> int:
        return int(self.ends[-1]) if len(self.ends) else 0

    def read(self, rows: Iterable[int]) -> Iterator[Item]:
        """Holds one row group at a time: ascending rows read each group once."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        folders = () if isinstance(self.path, Remote) else (self.path.parent,)
        with pq.ParquetFile(opened(self.path)) as file:
            for group, members in groupby(rows, key=self._group):
                try:
                    images = file.read_row_group(group, columns=[self.column])[self.column]
                except (OSError, pa.ArrowException) as error:
                    raise DataError(
                        f"{self.path}: row group {group} cannot be read: {error}"
                    ) from error
                first = int(self.ends[group]) - len(images)
                for row in members:
                    raw = as_raw(images[row - first].as_py(), folders)
                    yield f"{self.path} row {row}", raw

    def _group(self, row: int) -> int:
        return int(np.searchsorted(self.ends, row, side="right"))


def as_raw(cell: bytes | dict[str, Any] | None, folders: Iterable[Path]) -> Raw | None:
    """The image in a cell: bytes, or the ``{bytes, path}`` of the Hugging Face image feature.

    None where there is none, or the path leads out of these folders.
    """
    if not isinstance(cell, dict):
        return cell
    data, path = cell.get("bytes"), cell.get("path")
    if data is not None or path is None:
        return data
    # A file must not choose what else of this machine is read.
    paths = (f / path for f in folders if (f / path).resolve().is_relative_to(f.resolve()))
    return next(paths, None)


def _labels(file: pq.ParquetFile, path: Path | Remote) -> tuple[Labels, tuple[str, ...]]:
    # The description of the columns that the library datasets leaves in a file.
    metadata = json.loads((file.schema_arrow.metadata or {}).get(b"huggingface", b"{}"))
    described = metadata.get("info", {}).get("features", {})
    features = {name: feature for name, feature in described.items() if isinstance(feature, dict)}
    typed = [name for name, feature in features.items() if feature.get("_type") == "ClassLabel"]
    column = next((c for c in (*_LABEL, *typed) if c in file.schema_arrow.names), None)
    if column is None:
        return None, ()
    values = file.read(columns=[column])[column]
    if values.null_count:
        raise LabelError(f"{path}: {values.null_count} rows have no {column}: remove or fill them")
    names = features.get(column, {}).get("names") or ()
    return as_labels(values.to_pylist(), str(path), names)
