"""Labels: one whole number an image, and a name for each class where there are names."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Int64
from numpy.typing import ArrayLike
from torch import Tensor

from offmap.data.types import Labels
from offmap.errors import LabelError


def as_labels(
    values: ArrayLike, where: str, names: Sequence[str] = ()
) -> tuple[Labels, tuple[str, ...]]:
    """Labels as integers, and the classes: the names given, or the distinct strings, sorted.

    Labels that are all -1 mean "kept secret" in published test sets: they count as none.
    """
    try:
        array = np.asarray(values)
    except ValueError as error:  # lists of different lengths
        raise LabelError(f"{where}: labels must be one an image; seen lists of them") from error
    array = array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array
    if array.size == 0:  # of lists without anything in them, which have the type of floats
        return torch.zeros(0, dtype=torch.int64, device="cpu"), tuple(names)
    if array.ndim != 1 or array.dtype.kind not in "iubUS":
        raise LabelError(
            f"{where}: labels must be whole numbers or strings, one an image; "
            f"seen {array.dtype} of shape {array.shape}"
        )
    if array.dtype.kind == "S":
        try:
            array = np.char.decode(array, "utf-8")
        except UnicodeDecodeError as error:
            raise LabelError(f"{where}: labels of bytes must be UTF-8: {error}") from error
    if array.dtype.kind == "U":
        classes, labels = np.unique(array, return_inverse=True)
        return torch.from_numpy(labels.astype(np.int64)), tuple(classes.tolist())
    if (array == -1).all():
        return None, ()
    return torch.from_numpy(array.astype(np.int64)), tuple(names)


def check_labels(
    name: str, samples: int, labels: Int64[Tensor, " n"] | None, classes: tuple[str, ...]
) -> None:
    """One label an image, each of a class that has a name where classes have names.

    Raises:
        LabelError: labels of another number, kind or range.
    """
    if labels is None:
        return
    if not isinstance(labels, Tensor):
        raise LabelError(
            f"{name} has labels in a {type(labels).__name__}: give a tensor, one int64 an image"
        )
    if labels.shape != (samples,) or labels.dtype != torch.int64:
        raise LabelError(
            f"{name} has labels {labels.dtype} of shape {tuple(labels.shape)} for {samples} "
            "images: give one int64 each"
        )
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or (classes and high >= len(classes)):
        span = f"0 to {len(classes) - 1}" if classes else "0 and up"
        raise LabelError(f"{name} has labels from {low} to {high}, where {span} is meant")
