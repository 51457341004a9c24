"""Scores, predictions, labels and keys of an evaluation, as one table by sample."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from offmap._utils.files import as_text, atomic
from offmap.errors import StoreError

if TYPE_CHECKING:
    import pyarrow as pa

# Columns beside those of the detectors.
_COLUMNS = {"predictions": "predicted", "labels": "label", "keys": "key"}
RESERVED = ("set", *_COLUMNS.values())  # no detector can be called so
BY_SAMPLE = ("scores", *_COLUMNS)


def as_table(
    *,
    scores: Mapping[str, Mapping[str, Any]],
    predictions: Mapping[str, Any],
    labels: Mapping[str, Any],
    keys: Mapping[str, Any],
) -> pa.Table:
    """One row a sample: its set, key, label and prediction, and one column a detector."""
    import pyarrow as pa

    texts = {name: [*map(as_text, of)] for name, of in keys.items()}  # paths, of any bytes
    facts = dict(zip(_COLUMNS.values(), (predictions, labels, texts), strict=True))
    parts = {name: of for name, of in {**facts, **scores}.items() if of}
    sizes = {name: len(x) for of in parts.values() for name, x in of.items()}
    names = [name for name, size in sizes.items() for _ in range(size)]
    columns = {"set": pa.array(names, pa.string()).dictionary_encode()}
    for column, of in parts.items() if sizes else ():
        chunks = [  # nulls for a set that has none of them, such as OOD labels
            pa.array(of[name]) if len(of.get(name, ())) else pa.nulls(size)
            for name, size in sizes.items()
        ]
        kinds = [chunk.type for chunk in chunks if not pa.types.is_null(chunk.type)]
        # A cast to the type of the first set could round those of another, without a word.
        kind = pa.float64() if pa.float64() in kinds else next(iter(kinds), pa.null())
        columns[column] = pa.concat_arrays([chunk.cast(kind) for chunk in chunks])
    return pa.table(columns)


def write_table(table: pa.Table, path: Path) -> str:
    """Write such a table, and give the SHA-256 of its file."""
    import pyarrow.parquet as pq

    with atomic(path) as temporary:
        pq.write_table(table, temporary)
        return _sha256(temporary)


def read_table(path: Path, sha256: str) -> pa.Table:
    """Read one back.

    Args:
        path: of its file.
        sha256: of the file.

    Raises:
        StoreError: it is another file.
    """
    import pyarrow.parquet as pq

    if _sha256(path) != sha256:
        raise StoreError(
            f"{path} is not of the results beside it: they were replaced, and the writing was "
            "interrupted; make them anew"
        )
    return pq.read_table(path)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def from_table(table: pa.Table) -> dict[str, Any]:
    """The arguments of :func:`as_table`, from the table."""
    names = table["set"].to_numpy()
    rows = {name: np.flatnonzero(names == name) for name in dict.fromkeys(names)}
    by_column: dict[str, dict[str, Any]] = {}
    for column in table.column_names[1:]:
        cells = table[column]
        parts = {name: cells.take(of) for name, of in rows.items()}
        by_column[column] = {
            name: part.to_pylist() if column == "key" else part.to_numpy()
            for name, part in parts.items()
            if part.null_count == 0
        }
    facts = {name: by_column.pop(column, {}) for name, column in _COLUMNS.items()}
    return {"scores": by_column, **facts}
