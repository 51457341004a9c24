"""Features computed before: arrays in files, with labels beside them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from offmap._utils.files import reason_of
from offmap.data.sources.arrays import UNREADABLE
from offmap.errors import DataError, DataNotFoundError

FEATURES = ("features", "embeddings", "embedding", "X", "x")
_LABELS = ("labels", "label", "y")
Arrays = tuple[NDArray[Any], NDArray[Any] | None]


def load_features(path: str | Path) -> Arrays:
    """Features ``(n, d)`` and labels ``(n,)``, where there are some, of a file.

    ``.npy`` holds features alone; ``.npz`` an array, ``.parquet`` a column of lists, called
    features, embeddings, embedding or x; labels are called labels, label or y. Nothing is
    unpickled. Both are what :meth:`Guard.fit` and :func:`evaluate` take, around
    ``torch.nn.Identity()`` with ``outputs="features"``, or around a linear layer.

    Args:
        path: the file.

    Raises:
        DataNotFoundError: there is none.
        DataError: it cannot be read, or holds no such array, or not one row a sample.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     np.savez(f"{folder}/a.npz", features=np.eye(3), labels=np.arange(3))
        ...     x, y = load_features(f"{folder}/a.npz")
        >>> x.shape, y.tolist()
        ((3, 3), [0, 1, 2])
    """
    path = Path(path)
    if not path.is_file():
        raise DataNotFoundError(f"there is no file {path}")
    if (read := _READERS.get(path.suffix.lower())) is None:
        raise DataError(f"{path}: features are read from {', '.join(_READERS)}")
    try:
        features, labels = read(path)
    except DataError:
        raise
    except UNREADABLE as error:  # Arrow's own are among them
        raise DataError(f"{path} cannot be read as features: {reason_of(error)}") from error
    if features.ndim != 2 or features.dtype.kind not in "iuf":
        raise DataError(
            f"{path}: features are numbers of shape (n, d); seen {features.dtype} of shape "
            f"{features.shape}"
        )
    if labels is not None and labels.shape != features.shape[:1]:
        raise DataError(f"{path}: {len(features)} rows of features, and {labels.shape} labels")
    return features.astype(np.float32) if features.dtype.kind != "f" else features, labels


def _read_npz(path: Path) -> Arrays:
    with np.load(path, allow_pickle=False) as file:
        return _features_and_labels({name: file[name] for name in file.files}, path)


def _read_parquet(path: Path) -> Arrays:
    import pyarrow.parquet as pq
    from pyarrow import types

    table = pq.read_table(path)
    columns = {}
    for name in table.column_names:
        column = table[name].combine_chunks()
        checks = types.is_list, types.is_large_list, types.is_fixed_size_list
        lists = any(check(column.type) for check in checks)
        columns[name] = _rows(column, path) if lists else column.to_numpy(zero_copy_only=False)
    return _features_and_labels(columns, path)


def _rows(column: Any, path: Path) -> NDArray[Any]:
    """A column of lists of one length as an array."""
    from pyarrow import compute

    values: NDArray[Any] = column.flatten().to_numpy(zero_copy_only=False)
    if len(column) == 0 or len(values) % len(column):
        raise DataError(f"{path}: the lists of features must have one length")
    lengths = np.unique(compute.list_value_length(column).to_numpy(zero_copy_only=False))
    if len(lengths) != 1:
        raise DataError(f"{path}: the lists of features must have one length; seen {lengths[:5]}")
    return values.reshape(len(column), -1)


def _features_and_labels(arrays: Mapping[str, NDArray[Any]], path: Path) -> Arrays:
    features = next((arrays[name] for name in FEATURES if name in arrays), None)
    if features is None:
        raise DataError(
            f"{path} holds {', '.join(arrays)}: name the features one of {', '.join(FEATURES)}"
        )
    return features, next((arrays[name] for name in _LABELS if name in arrays), None)


_READERS: dict[str, Callable[[Path], Arrays]] = {
    ".npy": lambda path: (np.load(path, allow_pickle=False), None),
    ".npz": _read_npz,
    ".parquet": _read_parquet,
}
