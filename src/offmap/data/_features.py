"""Features computed before: arrays in files, with labels beside them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
    features, embeddings, embedding or x; labels are called labels, label or y. What else the file
    holds is not read, and nothing is unpickled. Both are what :meth:`Guard.fit` and
    :func:`evaluate` take, around ``torch.nn.Identity()`` with ``outputs="features"``, or around a
    linear layer.

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
        names = _features_and_labels(file.files, path)
        arrays = [file[name] for name in names]
    return arrays[0], arrays[1] if len(arrays) > 1 else None


def _read_parquet(path: Path) -> Arrays:
    import pyarrow.parquet as pq
    from pyarrow import compute, types

    with pq.ParquetFile(path) as file:
        names = _features_and_labels(file.schema_arrow.names, path)
        table = file.read(columns=names)
    arrays: list[NDArray[Any]] = []
    for name in names:
        column = table[name].combine_chunks()
        checks = types.is_list, types.is_large_list, types.is_fixed_size_list
        if not any(check(column.type) for check in checks):
            arrays.append(column.to_numpy(zero_copy_only=False))
            continue
        values = column.flatten().to_numpy(zero_copy_only=False)
        lengths = np.unique(compute.list_value_length(column).to_numpy(zero_copy_only=False))
        if len(lengths) != 1 or not len(values):
            raise DataError(
                f"{path}: the lists of {name} must have one length, above 0; seen {lengths[:5]}"
            )
        arrays.append(values.reshape(len(column), -1))
    return arrays[0], arrays[1] if len(arrays) > 1 else None


def _features_and_labels(names: Sequence[str], path: Path) -> list[str]:
    """The name of the features, and that of the labels if there are some; no more is read."""
    features = next((name for name in FEATURES if name in names), None)
    if features is None:
        raise DataError(
            f"{path} holds {', '.join(names)}: name the features one of {', '.join(FEATURES)}"
        )
    return [features, *(name for name in _LABELS if name in names)][:2]


_READERS: dict[str, Callable[[Path], Arrays]] = {
    ".npy": lambda path: (np.load(path, allow_pickle=False), None),
    ".npz": _read_npz,
    ".parquet": _read_parquet,
}
